//! Where the sun stands, for day and night on the map. The low-precision formula of the
//! Astronomical Almanac (0.01 degrees from 1950 to 2050).

/// The place on the earth that the sun stands above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sun {
    /// Degrees, north positive.
    pub(super) declination: f64,
    /// Degrees, east positive, within ±180.
    pub(super) longitude: f64,
}

/// Days from 1970 to 2000-01-01 12:00 UTC, from which the formula counts.
const J2000_DAYS: f64 = 10_957.5;
const DAY_MS: f64 = 86_400_000.0;

/// Where the sun stands at this time (milliseconds since 1970 UTC).
pub(super) fn sun(time_ms: i64) -> Sun {
    let days = time_ms as f64 / DAY_MS - J2000_DAYS;
    let anomaly = (357.529 + 0.985_600_28 * days).to_radians();
    let mean_longitude = 280.459 + 0.985_647_36 * days;
    let ecliptic = mean_longitude + 1.915 * anomaly.sin() + 0.020 * (2.0 * anomaly).sin();
    let ecliptic = ecliptic.to_radians();
    let obliquity = (23.439 - 0.000_000_36 * days).to_radians();
    let ascension = (obliquity.cos() * ecliptic.sin()).atan2(ecliptic.cos());
    let sidereal = (18.697_374_558 + 24.065_709_824_419_08 * days) * 15.0;
    let longitude = (ascension.to_degrees() - sidereal).rem_euclid(360.0);
    Sun {
        declination: (obliquity.sin() * ecliptic.sin()).asin().to_degrees(),
        longitude: if longitude > 180.0 {
            longitude - 360.0
        } else {
            longitude
        },
    }
}

impl Sun {
    /// The latitude at which it rises or sets on this meridian.
    pub(super) fn terminator(self, longitude: f64) -> f64 {
        // At an equinox the terminator is a meridian: a little beside it there is a latitude.
        let declination = match self.declination {
            flat if flat.abs() < 0.1 => 0.1_f64.copysign(flat),
            other => other,
        };
        let hour_angle = (longitude - self.longitude).to_radians();
        (-hour_angle.cos() / declination.to_radians().tan())
            .atan()
            .to_degrees()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Sun {
        let time = chrono::DateTime::parse_from_rfc3339(text).unwrap();
        sun(time.timestamp_millis())
    }

    #[test]
    fn the_sun_stands_where_the_almanac_says() {
        // Solstices and equinoxes to the minute: the declination is extreme, or zero.
        assert!((at("2026-06-21T08:24:00Z").declination - 23.436).abs() < 0.02);
        assert!((at("2026-12-21T20:50:00Z").declination + 23.436).abs() < 0.02);
        assert!(at("2026-03-20T14:46:00Z").declination.abs() < 0.02);
        // At noon in Greenwich the sun is off the meridian by the equation of time: 16.4 minutes
        // of time early at the beginning of November, 14.2 late in mid-February.
        assert!((at("2026-11-03T12:00:00Z").longitude + 4.11).abs() < 0.1);
        assert!((at("2026-02-11T12:00:00Z").longitude - 3.55).abs() < 0.1);
    }

    #[test]
    fn the_terminator_is_a_quarter_of_the_earth_from_the_sun() {
        let sun = at("2026-11-25T03:00:00Z");
        for longitude in [-180.0, -30.0, 0.0, 77.0] {
            let latitude = sun.terminator(longitude).to_radians();
            let declination = sun.declination.to_radians();
            let hour_angle = (longitude - sun.longitude).to_radians();
            let cosine = latitude.sin() * declination.sin()
                + latitude.cos() * declination.cos() * hour_angle.cos();
            assert!(cosine.abs() < 1e-9, "{longitude}: {cosine}");
        }
    }

    #[test]
    fn at_an_equinox_the_terminator_is_finite() {
        let sun = Sun {
            declination: 0.0,
            longitude: 0.0,
        };
        assert!(sun.terminator(0.0).is_finite() && sun.terminator(90.0).is_finite());
    }
}
