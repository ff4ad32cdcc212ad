//! One call at a time per volume or target: a second one is told so instead of waiting, and asks again (CSI spec, "Error
//! Scheme", ABORTED).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::protocol::{Code, Refusal};

/// The most calls under way.
pub const MAX_IN_FLIGHT: usize = 1024;

/// What is being worked on.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    keys: Arc<Mutex<HashSet<String>>>,
}

/// One turn at something; the next one may begin when it is dropped.
#[derive(Debug)]
pub struct Turn {
    keys: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl InFlight {
    /// A turn at `key`.
    ///
    /// # Errors
    /// ABORTED where somebody has it, RESOURCE_EXHAUSTED past [`MAX_IN_FLIGHT`].
    pub fn enter(&self, key: impl Into<String>) -> Result<Turn, Refusal> {
        let key = key.into();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_IN_FLIGHT {
            let sentence = format!("{MAX_IN_FLIGHT} calls are under way already; try again");
            return Err(Refusal::new(Code::ResourceExhausted, sentence));
        }
        if !keys.insert(key.clone()) {
            let sentence = format!("a call for {key} is under way; try again when it has ended");
            return Err(Refusal::new(Code::Aborted, sentence));
        }
        Ok(Turn { keys: Arc::clone(&self.keys), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_for_the_same_is_told_to_come_back() {
        let calls = InFlight::default();
        let first = calls.enter("a").unwrap();
        assert_eq!(calls.enter("a").unwrap_err().code, Code::Aborted);
        let _other = calls.enter("b").unwrap();
        drop(first);
        assert!(calls.enter("a").is_ok());
    }

    #[test]
    fn the_number_of_calls_has_a_bound() {
        let calls = InFlight::default();
        let turns: Vec<_> = (0..MAX_IN_FLIGHT).map(|n| calls.enter(n.to_string()).unwrap()).collect();
        assert_eq!(calls.enter("one more").unwrap_err().code, Code::ResourceExhausted);
        drop(turns);
        assert!(calls.enter("one more").is_ok());
    }
}
