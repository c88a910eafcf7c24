//! Where what is landed was on the earth, for a table with `latitude` and `longitude`.

use std::collections::VecDeque;

/// Longer than one orbit of the station (93 minutes), so that the ground track closes.
const POINTS_MAX: usize = 1_200;
/// A step on the map is seen no finer; 1,200 of them are 100 minutes.
const STEP_MS: i64 = 5_000;

/// A place at a time.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Position {
    /// Milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// Degrees, north positive, within ±90.
    pub latitude: f64,
    /// Degrees, east positive, within ±180.
    pub longitude: f64,
}

/// The last positions, the oldest first.
#[derive(Debug, Default)]
pub struct Track {
    points: VecDeque<Position>,
    last: Option<Position>,
}

impl Track {
    /// Adds a position, unless it is none on the earth or older than the last: what is read again
    /// does not turn back the map.
    pub fn note(&mut self, position: Position) {
        let is_place = position.latitude.abs() <= 90.0 && position.longitude.abs() <= 180.0;
        if !is_place
            || self
                .last
                .is_some_and(|last| position.time_ms <= last.time_ms)
        {
            return;
        }
        self.last = Some(position);
        let is_step = self
            .points
            .back()
            .is_none_or(|last| position.time_ms - last.time_ms >= STEP_MS);
        if is_step {
            self.points.push_back(position);
            if self.points.len() > POINTS_MAX {
                self.points.pop_front();
            }
        }
    }

    /// The newest position.
    pub fn last(&self) -> Option<Position> {
        self.last
    }

    /// All of them, the oldest first; the newest is the last.
    pub fn points(&self) -> Vec<Position> {
        let newest = self.last.filter(|last| self.points.back() != Some(last));
        self.points.iter().copied().chain(newest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ms: i64, longitude: f64) -> Position {
        Position {
            time_ms,
            latitude: 1.0,
            longitude,
        }
    }

    #[test]
    fn the_track_keeps_steps_and_always_the_newest() {
        let mut track = Track::default();
        for second in 0..8 {
            track.note(at(second * 1000, second as f64));
        }
        let kept: Vec<i64> = track.points().iter().map(|point| point.time_ms).collect();
        assert_eq!(kept, [0, 5000, 7000]);
        assert_eq!(track.last(), Some(at(7000, 7.0)));
    }

    #[test]
    fn what_is_older_or_no_place_is_left_out() {
        let mut track = Track::default();
        track.note(at(9000, 1.0));
        track.note(at(8000, 2.0));
        track.note(at(20_000, 181.0));
        track.note(at(20_000, f64::NAN));
        assert_eq!(track.points(), [at(9000, 1.0)]);
    }

    #[test]
    fn the_track_has_a_limit() {
        let mut track = Track::default();
        for step in 0..2 * POINTS_MAX as i64 {
            track.note(at(step * STEP_MS, 0.0));
        }
        assert_eq!(track.points().len(), POINTS_MAX);
    }
}
