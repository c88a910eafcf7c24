//! The world map as SVG paths: equirectangular, 1440 by 720 units of a quarter of a degree,
//! longitude -180 and latitude 90 at the origin. Pure.

use std::fmt::Write;

use crate::status::track::Position;

use super::sun::sun;

/// Units of a degree.
const SCALE: f64 = 4.0;
/// The night's edge is drawn in steps of so many degrees: smoother than the coast.
const NIGHT_STEP: usize = 3;
/// Between two positions further apart than this (six steps of the track) nothing is known.
const BREAK_MS: i64 = 30_000;

/// Where a place is drawn.
pub(super) fn point(latitude: f64, longitude: f64) -> (f64, f64) {
    ((longitude + 180.0) * SCALE, (90.0 - latitude) * SCALE)
}

/// The part of the earth where the sun is down.
pub(super) fn night(time_ms: i64) -> String {
    let sun = sun(time_ms);
    let mut path = String::new();
    for longitude in (-180..=180).step_by(NIGHT_STEP) {
        let longitude = f64::from(longitude);
        let (x, y) = point(sun.terminator(longitude), longitude);
        let letter = if path.is_empty() { 'M' } else { 'L' };
        // Writing into a string cannot fail.
        let _ = write!(path, "{letter}{x:.0} {y:.0}");
    }
    // In the northern summer it is night at the south pole.
    path.push_str(match sun.declination >= 0.0 {
        true => "L1440 720L0 720Z",
        false => "L1440 0L0 0Z",
    });
    path
}

/// The way over ground, broken where it leaves the map on one side and where positions are
/// missing.
pub(super) fn track(points: &[Position]) -> String {
    let mut path = String::new();
    let mut before: Option<&Position> = None;
    for position in points {
        let (x, y) = point(position.latitude, position.longitude);
        let goes_on = before.is_some_and(|before| {
            let is_near = (position.longitude - before.longitude).abs() < 180.0;
            is_near && position.time_ms - before.time_ms <= BREAK_MS
        });
        let _ = write!(path, "{}{x:.1} {y:.1}", if goes_on { 'L' } else { 'M' });
        before = Some(position);
    }
    path
}

/// The lag over time as a line in a box of `width` by `height`; the newest at the right.
pub(super) fn sparkline(values: &[f64], width: f64, height: f64) -> String {
    let top = values.iter().copied().fold(1.0, f64::max);
    let step = width / values.len().saturating_sub(1).max(1) as f64;
    let mut path = String::new();
    for (index, value) in values.iter().enumerate() {
        let (x, y) = (index as f64 * step, height - value / top * height);
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, longitude: f64) -> Position {
        Position {
            time_ms: seconds * 1000,
            latitude: 0.0,
            longitude,
        }
    }

    #[test]
    fn a_place_is_drawn_at_a_quarter_of_a_degree() {
        assert_eq!(point(90.0, -180.0), (0.0, 0.0));
        assert_eq!(point(-90.0, 180.0), (1440.0, 720.0));
        assert_eq!(point(0.0, 0.0), (720.0, 360.0));
    }

    #[test]
    fn the_track_is_broken_at_the_antimeridian_and_where_positions_are_missing() {
        let path = track(&[
            at(0, 179.0),
            at(5, 180.0),
            at(10, -179.0),
            at(15, -178.0),
            at(90, 0.0),
        ]);
        assert_eq!(
            path,
            "M1436.0 360.0L1440.0 360.0M4.0 360.0L8.0 360.0M720.0 360.0"
        );
        assert_eq!(track(&[]), "");
    }

    #[test]
    fn it_is_night_at_the_pole_that_is_in_winter() {
        // 2026-06-21 and 2026-12-21, noon.
        assert!(night(1_782_043_200_000).ends_with("L1440 720L0 720Z"));
        assert!(night(1_797_854_400_000).ends_with("L1440 0L0 0Z"));
    }

    #[test]
    fn a_sparkline_fills_its_box_and_stands_on_its_floor() {
        assert_eq!(
            sparkline(&[0.0, 4.0, 2.0], 100.0, 20.0),
            "M0.0 20.0L50.0 0.0L100.0 10.0"
        );
        assert_eq!(sparkline(&[0.0, 0.0], 100.0, 20.0), "M0.0 20.0L100.0 20.0");
        assert_eq!(sparkline(&[], 100.0, 20.0), "");
    }
}
