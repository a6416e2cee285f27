//! Schedules as JSON: `{"version": 1, "schedule": {"cosine": {"steps": 100.0, "floor": 0.0}}}`.

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::error::Error;

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    schedule: Schedule,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Schedule {
    /// The schedule as JSON. A function has none.
    pub fn to_json(&self) -> Result<String, Error> {
        let document = Document { version: VERSION, schedule: self.clone() };
        serde_json::to_string(&document).map_err(|error| Error::WriteJson { reason: error.to_string() })
    }

    /// The schedule that [`to_json`](Self::to_json) wrote. Unknown fields and other versions are errors.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let schedule = Self::from_json_with_places(text)?;
        match schedule.function_count() {
            0 => Ok(schedule),
            count => {
                Err(Error::ReadJson { reason: format!("it has places for {count} functions, which JSON cannot hold") })
            }
        }
    }

    /// The same, where functions kept elsewhere are allowed.
    pub fn from_json_with_places(text: &str) -> Result<Self, Error> {
        let read = |error: serde_json::Error| Error::ReadJson { reason: error.to_string() };
        // The version first: what another one looks like is not known.
        let Version { version } = serde_json::from_str(text).map_err(read)?;
        if version != VERSION {
            return Err(Error::JsonVersion { found: version, expected: VERSION });
        }
        serde_json::from_str(text).map(|Document { schedule, .. }| schedule).map_err(read)
    }
}
