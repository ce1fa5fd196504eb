//! Compaction: several segments become one run with the same visible rows.
//!
//! 1. Open a job in the table log: objects of an open job are nobody's garbage.
//! 2. Merge the inputs by key and rank, drop what chapter 9 of the design allows, write the outputs under the job's name.
//! 3. One edit replaces inputs by outputs and closes the job. It is refused where an input has gone, a segment outside
//!    has rows between, or the settings that drops were planned under have changed: then the outputs are garbage and
//!    the work is given up, never forced.
//!
//! A crash leaves an open job and objects of its name; whoever finds a job open for long closes it, and only then may
//! its objects be collected.

mod choose;

use std::sync::Arc;

use nacre_manifest::{Change, Compact, DropGuard, JobKind, Layer, Location};
use nacre_segment::WriterSettings;
use nacre_types::{Error, JobId, Result};
use tokio::sync::mpsc;

use crate::Table;
use crate::flush::sealed_floors;
use crate::output::{Built, SegmentSink, put_segment, write_kept};
use crate::outside::{Outside, Own};
use crate::rows::Expiry;
use crate::rows::keep::{KeepContext, Keeper};
use crate::rows::merge::Merge;
use crate::segment_rows::SegmentRows;
use crate::view::covered_place;
pub use choose::{CompactionPlan, choose};

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionReport {
    /// Segments that went.
    pub inputs: usize,
    /// Segments that came.
    pub outputs: usize,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
}

/// Outputs that wait to be put.
const OUTPUTS_QUEUED: usize = 2;

impl Table {
    /// Does the next compaction that is due, if one is.
    ///
    /// # Errors
    /// `Unavailable`; `Conflict` where another process changed the table meanwhile: nothing is lost, look again.
    pub async fn compact_once(self: &Arc<Self>) -> Result<Option<CompactionReport>> {
        let Some(plan) = choose(&self.manifest()) else { return Ok(None) };
        let job = JobId(self.shared.ctx.ids.random_u128());
        self.commit(Box::new(move |_| Ok(vec![Change::OpenJob { job, kind: JobKind::Compaction }]))).await?;
        match self.run_compaction(job, plan).await {
            Ok(report) => Ok(Some(report)),
            // Unknown: the job's edit may still be committed, and would be refused were the job closed. Leave it.
            Err(error) if error.kind() == nacre_types::ErrorKind::Unknown => Err(error),
            Err(error) => {
                self.commit(Box::new(move |manifest| {
                    Ok(if manifest.is_job_open(job) { vec![Change::CloseJob { job }] } else { Vec::new() })
                }))
                .await?;
                Err(error)
            }
        }
    }

    async fn run_compaction(self: &Arc<Self>, job: JobId, plan: CompactionPlan) -> Result<CompactionReport> {
        let manifest = self.manifest();
        let shared = self.shared.clone();
        shared.ctx.phases.reach("compaction/opened").await;
        let mut sources = Vec::with_capacity(plan.inputs.len());
        let mut rows_in = 0;
        for &id in &plan.inputs {
            let segment =
                manifest.segment(id).ok_or_else(|| Error::conflict(format!("segment {id} has gone")))?;
            rows_in += segment.rows;
            let base = segment.layer.streamed().map_or(covered_place(plan.span.from), |span| {
                nacre_types::Place::streamed(span.generation, span.from)
            });
            sources.push(SegmentRows::open(&shared, self.id(), &segment, base).await?);
        }
        let now = shared.now_for_drops().await?;
        let oldest = plan.inputs.iter().filter_map(|id| manifest.segment_ref(*id)).map(|s| s.min_version());
        let own = Own { segments: plan.inputs.iter().copied().collect(), flushed: None };
        let outside = Outside::look(self, now, oldest.min().unwrap_or(i64::MAX), own).await;
        let (send, mut built) = mpsc::channel::<Built>(OUTPUTS_QUEUED);
        let (job_manifest, job_shared, target) =
            (manifest.clone(), shared.clone(), shared.config.flush.segment_bytes);
        let merge = shared.ctx.tasks.spawn_blocking("compaction-merge", move || {
            let sources = sources.into_iter().map(SegmentRows::start).collect::<Result<Vec<_>>>()?;
            let sealed_floors = sealed_floors(&job_manifest);
            let settings = job_manifest.settings();
            let keeper = Keeper::new(KeepContext {
                sealed_floors: &sealed_floors,
                expiry: Expiry::of(settings, job_manifest.expired_below()),
                max_versions: settings.max_versions,
                now,
                late_below: outside.as_ref().map(Outside::limit),
            });
            let mut emit = |segment: Built| {
                send.blocking_send(segment).map_err(|_| Error::unavailable("the compaction was given up"))
            };
            let sink = SegmentSink::new(&*job_shared.ctx.ids, WriterSettings::default(), target, &mut emit);
            write_kept(Merge::new(sources), keeper, sink, outside)
        });
        let mut outputs = Vec::new();
        while let Some(built) = built.recv().await {
            let segment = built.to_segment(Location::Job(job), Layer::Streamed(plan.span), false);
            shared.ctx.phases.reach("compaction/put").await;
            put_segment(&shared, self.id(), &segment, built.bytes).await?;
            outputs.push(segment);
        }
        let dropped = merge.await??;
        let rows_out = outputs.iter().map(|segment| segment.rows).sum();
        let report =
            CompactionReport { inputs: plan.inputs.len(), outputs: outputs.len(), rows_in, rows_out };
        let drops = dropped.any.then(|| DropGuard {
            now_micros: now,
            settings: manifest.settings_number(),
            late_below: dropped.late.map(|late| late.below),
        });
        shared.ctx.phases.reach("compaction/commit").await;
        self.commit(Box::new(move |manifest| {
            if !manifest.is_job_open(job) {
                return Err(Error::conflict("the compaction's job was closed").with_code("job-not-open"));
            }
            if let Some(late) = &dropped.late {
                late.check(manifest)?;
            }
            let compact = Compact { job, inputs: plan.inputs.clone(), outputs: outputs.clone(), drops };
            Ok(vec![Change::Compact(compact), Change::CloseJob { job }])
        }))
        .await?;
        shared.ctx.phases.reach("compaction/committed").await;
        shared.metrics.compactions.inc();
        shared.metrics.rows_compacted.inc_by(rows_in);
        Ok(report)
    }
}
