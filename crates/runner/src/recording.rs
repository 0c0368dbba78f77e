//! What the probes recorded of one pass, kept raw until the run is over.

use std::rc::Rc;

use foretoken_spec::Slice;

use crate::kernels::PassEvents;
use crate::layout::PassLayout;

/// The recording of one probed pass. Reading it takes as long as a short pass, so it is kept
/// while a run goes on and read after.
#[derive(Debug, Clone)]
pub struct Recording(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Events { pass: PassEvents, layout: Rc<PassLayout> },
    Slices(Vec<Slice>),
}

impl Recording {
    pub(crate) fn of_events(pass: PassEvents, layout: Rc<PassLayout>) -> Self {
        Self(Kind::Events { pass, layout })
    }

    /// A recording that says these slices, as if two span edges had been recorded for each.
    pub(crate) fn of_slices(slices: Vec<Slice>) -> Self {
        Self(Kind::Slices(slices))
    }

    /// Span edges that were recorded.
    pub fn n_events(&self) -> usize {
        match &self.0 {
            Kind::Events { pass, .. } => pass.events.len(),
            Kind::Slices(slices) => 2 * slices.len(),
        }
    }

    /// What ran when in the pass, without a gap.
    pub fn slices(&self) -> Vec<Slice> {
        match &self.0 {
            Kind::Events { pass, layout } => pass.slices(layout),
            Kind::Slices(slices) => slices.clone(),
        }
    }
}
