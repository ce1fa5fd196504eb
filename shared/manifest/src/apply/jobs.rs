//! Jobs: an edit that brings segments names one that is open, so a zombie cannot commit once it is closed.

use super::Draft;
use crate::{Job, JobKind, Refused, RefusedReason};
use nacre_types::JobId;
use std::sync::Arc;

impl Draft {
    pub(super) fn open_job(&mut self, job: JobId, kind: JobKind) -> Result<(), Refused> {
        self.check_new_job(job)?;
        let opened = Job { id: job, kind, opened: self.next.seq, opened_at_micros: self.at_micros };
        Arc::make_mut(&mut self.next.jobs).push(opened);
        Ok(())
    }

    pub(super) fn close_job(&mut self, job: JobId) -> Result<(), Refused> {
        let Some(at) = self.next.jobs.iter().position(|open| open.id == job) else {
            return Err(Refused::new(RefusedReason::JobNotOpen(job), format!("job {job} is not open")));
        };
        Arc::make_mut(&mut self.next.jobs).remove(at);
        Ok(())
    }

    pub(super) fn check_new_job(&self, job: JobId) -> Result<(), Refused> {
        let known =
            self.next.jobs.iter().any(|open| open.id == job) || self.next.loads().any(|load| load.job == job);
        if known {
            return Err(Refused::new(RefusedReason::JobExists(job), format!("there is a job {job} already")));
        }
        Ok(())
    }
}
