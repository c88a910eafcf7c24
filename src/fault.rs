//! Faults on request: a panic or a hang in the middle of an actor's work, for the tests of
//! supervision. Compiled out of a release build.
//!
//! `GROUNDTRACK_FAULTS="flattener=panic@3,uploader=hang@1"` (or [`plan`]) makes the third pass of
//! the flattener's fault point panic and the first of the uploader's never return.

/// Passes the fault point of this name; returns at once unless a fault is planned for this pass.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub async fn point(_name: &'static str) {}

/// Passes the fault point of this name on a thread that may block.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point_blocking(_name: &'static str) {}

#[cfg(debug_assertions)]
pub use planned::{clear, plan, point, point_blocking};

#[cfg(debug_assertions)]
mod planned {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    #[derive(Debug, Clone, Copy)]
    enum Fault {
        Panic,
        Hang,
    }

    #[derive(Debug, Default)]
    struct Plan {
        /// By fault point: what happens, and at which pass (1 is the next).
        faults: HashMap<String, (Fault, u64)>,
    }

    static PLAN: LazyLock<Mutex<Plan>> = LazyLock::new(|| {
        let mut plan = Plan::default();
        if let Ok(text) = std::env::var("GROUNDTRACK_FAULTS") {
            plan.read(&text);
        }
        Mutex::new(plan)
    });

    impl Plan {
        fn read(&mut self, text: &str) {
            for entry in text.split(',').filter(|entry| !entry.is_empty()) {
                let (name, rest) = entry.split_once('=').expect("a fault is name=kind@pass");
                let (kind, pass) = rest.split_once('@').unwrap_or((rest, "1"));
                let fault = match kind {
                    "panic" => Fault::Panic,
                    "hang" => Fault::Hang,
                    other => panic!("no fault is called {other}: panic, hang"),
                };
                let pass = pass.parse().expect("a pass is a number");
                self.faults.insert(name.to_owned(), (fault, pass));
            }
        }
    }

    /// Adds faults, written as in the module's description.
    pub fn plan(text: &str) {
        PLAN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read(text);
    }

    /// Forgets all planned faults.
    pub fn clear() {
        PLAN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .faults
            .clear();
    }

    fn due(name: &str) -> Option<Fault> {
        let mut plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, pass) = plan.faults.get_mut(name)?;
        let fault = *fault;
        *pass -= 1;
        if *pass > 0 {
            return None;
        }
        plan.faults.remove(name);
        Some(fault)
    }

    /// Passes the fault point of this name; returns at once unless a fault is planned for this
    /// pass.
    pub async fn point(name: &'static str) {
        match due(name) {
            None => {}
            Some(Fault::Panic) => panic!("planned fault in {name}"),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    /// Passes the fault point of this name on a thread that may block. A hang ends after ten
    /// minutes, so that no test leaves a thread behind for ever.
    pub fn point_blocking(name: &'static str) {
        match due(name) {
            None => {}
            Some(Fault::Panic) => panic!("planned fault in {name}"),
            Some(Fault::Hang) => std::thread::sleep(std::time::Duration::from_secs(600)),
        }
    }
}
