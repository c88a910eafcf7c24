//! Where the simulated station is: SGP4 on an element set of the ISS.

use chrono::DateTime;

/// The orbit of the ISS (25544) as published for 2025-10-29. Near that day it is the real one
/// within a few kilometres; at any other time it is a plausible orbit and no more.
const ELEMENTS: [&str; 2] = [
    "1 25544U 98067A   25302.48953544  .00013618  00000-0  24977-3 0  9995",
    "2 25544  51.6347   1.5519 0004808 353.3325   6.7599 15.49579513535999",
];

/// Elements are not propagated further than this from their day, since drag would in the end bring
/// the model down: later and earlier times go round within it, and the station jumps once in that
/// time.
const HORIZON_MINUTES: f64 = 30.0 * 24.0 * 60.0;

/// An element set, ready to be propagated.
#[derive(Debug)]
pub(crate) struct Orbit {
    elements: sgp4::Elements,
    constants: sgp4::Constants,
}

/// The point below the station.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Geocentric, as Open Notify gives it, -90 to 90.
    pub(crate) latitude_deg: f64,
    /// -180 to 180.
    pub(crate) longitude_deg: f64,
}

impl Orbit {
    /// The orbit of [`ELEMENTS`].
    pub(crate) fn of_the_station() -> Result<Self, String> {
        let [first, second] = ELEMENTS;
        let elements = sgp4::Elements::from_tle(None, first.as_bytes(), second.as_bytes())
            .map_err(|error| error.to_string())?;
        let constants =
            sgp4::Constants::from_elements(&elements).map_err(|error| error.to_string())?;
        Ok(Self {
            elements,
            constants,
        })
    }

    /// The position at this time, milliseconds since 1970 UTC. A time that cannot be propagated
    /// gives the point below the elements' own epoch.
    pub(crate) fn position(&self, time_ms: i64) -> Position {
        let epoch = self.elements.datetime;
        let time = DateTime::from_timestamp_millis(time_ms).map_or(epoch, |time| time.naive_utc());
        let minutes = self
            .elements
            .datetime_to_minutes_since_epoch(&time)
            .map_or(0.0, |minutes| minutes.0);
        let position = self
            .constants
            .propagate(sgp4::MinutesSinceEpoch(minutes % HORIZON_MINUTES))
            .map_or([1.0, 0.0, 0.0], |prediction| prediction.position);
        below(position, sgp4::julian_years_since_j2000(&time))
    }
}

/// The point below a place given in TEME coordinates, in km.
fn below([x, y, z]: [f64; 3], julian_years: f64) -> Position {
    let longitude = y.atan2(x) - sgp4::iau_epoch_to_sidereal_time(julian_years);
    Position {
        latitude_deg: z.atan2(x.hypot(y)).to_degrees(),
        longitude_deg: (longitude.to_degrees() + 180.0).rem_euclid(360.0) - 180.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a sphere of the Earth's mean radius.
    fn distance_km(a: Position, b: Position) -> f64 {
        let [lat_a, lat_b] = [a.latitude_deg.to_radians(), b.latitude_deg.to_radians()];
        let half_lat = (lat_b - lat_a) / 2.0;
        let half_lon = (b.longitude_deg - a.longitude_deg).to_radians() / 2.0;
        let haversine = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
        2.0 * 6371.0 * haversine.sqrt().asin()
    }

    #[test]
    fn near_its_epoch_the_orbit_is_the_one_that_open_notify_gave() {
        let orbit = Orbit::of_the_station().unwrap();
        for (timestamp_s, latitude_deg, longitude_deg) in [
            (1761653635, -47.3359, 86.5596),
            (1761654529, -9.3346, 134.5546),
            (1761740031, 46.4686, -96.5942),
            (1761741006, 3.6443, -47.1181),
        ] {
            let given = Position {
                latitude_deg,
                longitude_deg,
            };
            // The timestamp is cut to the second; the position was computed within that second,
            // or in the half second before.
            let distance = [-500, 0, 500, 1000]
                .map(|off_ms| distance_km(orbit.position(timestamp_s * 1000 + off_ms), given))
                .into_iter()
                .fold(f64::INFINITY, f64::min);
            assert!(distance < 5.0, "{distance} km at {timestamp_s}");
        }
    }

    #[test]
    fn the_orbit_is_plausible_at_any_time() {
        let orbit = Orbit::of_the_station().unwrap();
        let mut highest = 0.0_f64;
        for step in 0..5_000_i64 {
            let position = orbit.position(step * 400_000_000);
            assert!((-180.0..180.0).contains(&position.longitude_deg));
            highest = highest.max(position.latitude_deg.abs());
        }
        assert!((51.0..51.7).contains(&highest), "{highest}");
        for absurd in [i64::MIN, i64::MAX] {
            assert!(orbit.position(absurd).latitude_deg.abs() < 51.7);
        }
    }
}
