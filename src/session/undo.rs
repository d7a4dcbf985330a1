//! Undo and redo of the plan, by snapshots.

use crate::plan::Plan;

/// Plans before and after the current one.
#[derive(Clone, Debug, Default)]
pub(super) struct UndoStack {
    past: Vec<Plan>,
    future: Vec<Plan>,
}

impl UndoStack {
    /// Remembers the plan that a change replaces; what was undone is forgotten.
    pub(super) fn record(&mut self, before: Plan) {
        self.past.push(before);
        self.future.clear();
    }

    /// The plan before the last change.
    pub(super) fn undo(&mut self, current: &Plan) -> Option<Plan> {
        let before = self.past.pop()?;
        self.future.push(current.clone());
        Some(before)
    }

    /// The plan that was last undone.
    pub(super) fn redo(&mut self, current: &Plan) -> Option<Plan> {
        let after = self.future.pop()?;
        self.past.push(current.clone());
        Some(after)
    }

    pub(super) fn can_undo(&self) -> bool {
        !self.past.is_empty()
    }

    pub(super) fn can_redo(&self) -> bool {
        !self.future.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_change_forgets_what_was_undone() {
        let plans: Vec<Plan> = ["8/8", "4/8", "2/8"]
            .map(|widths| Plan::uniform(1, widths.parse().unwrap()))
            .to_vec();
        let mut stack = UndoStack::default();
        stack.record(plans[0].clone());
        let undone = stack.undo(&plans[1]).unwrap();
        assert_eq!(undone, plans[0]);
        assert_eq!(stack.redo(&undone).unwrap(), plans[1]);
        let undone = stack.undo(&plans[1]).unwrap();
        stack.record(undone);
        assert!(!stack.can_redo());
        assert_eq!(stack.undo(&plans[2]).unwrap(), plans[0]);
    }
}
