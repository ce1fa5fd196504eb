//! Runs become segments: ranges of keys, each merged on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use nacre_engine::{Built, SegmentRows, SegmentSink};
use nacre_manifest::Segment;
use nacre_segment::WriterSettings;
use nacre_types::{Error, Result};
use tokio::sync::mpsc;

use super::facts::{Cuts, MergeStep, Step};
use super::planner::{Unit, Work};
use super::results::Put;
use super::{Done, Job, OrLater, Stop};
use crate::merge::{Duplicate, Span, cuts, merge};
use crate::note::{SegmentNote, hex, unhex};

/// A segment of a rewritten load is not closed before it has so many bytes, however little memory there is.
const LEAST_SEGMENT: u64 = 8 << 20;
/// What is read of a run at a time, at least: a few blocks.
const LEAST_WINDOW: u64 = 64 << 10;
/// How many keys of each run say where the merge is cut.
const SAMPLED_KEYS: u32 = 64;
/// A range has about so many segments: enough ranges for several loaders, and few small segments at their ends.
const RANGE_SEGMENTS: u64 = 4;
/// Most ranges of a load.
const RANGES: u64 = 256;
/// Runs that are opened at once.
const OPEN_AT_ONCE: usize = 8;

/// A range that is being merged.
#[derive(Debug)]
struct Merging {
    unit: Unit,
    /// Somebody else is further with it.
    is_lost: AtomicBool,
}

/// Opened runs, kept from the cut to the merge.
pub(super) type Runs = Vec<SegmentRows>;

impl Job<'_> {
    /// Several segments are in memory at a time: one being written per range, one on its way, one being put.
    fn segment_target(&self) -> u64 {
        self.config.segment_bytes.min((self.config.sort_bytes as u64 / 4).max(LEAST_SEGMENT))
    }

    pub(super) async fn open_runs(&self, runs: &[SegmentNote]) -> Done<Runs> {
        let runs: Vec<Segment> =
            runs.iter().map(|note| note.to_segment(self.load.id, self.load.job)).collect::<Result<_>>()?;
        let open = |run: Segment| async move { self.table.open_run(&run).await };
        let opening = futures::stream::iter(runs.into_iter().map(open));
        Ok(opening.buffered(OPEN_AT_ONCE).try_collect().await?)
    }

    /// Says where the merge is cut. Each loader that finds no cuts makes some; the first that are put are everybody's.
    pub(super) async fn cut(&self, unit: &Unit, notes: &[SegmentNote], runs: &Runs) -> Done<()> {
        let bytes = notes.iter().map(|note| note.bytes).fold(0, u64::saturating_add);
        let segments = bytes / self.segment_target().max(1);
        let least = segments.min(self.config.merge_at_once as u64);
        let ranges = (segments / RANGE_SEGMENTS).max(least).clamp(1, RANGES) as usize;
        let samples = notes.iter().zip(runs).map(|(note, run)| (note.rows, run.sample_keys(SAMPLED_KEYS)));
        let keys = cuts(samples.collect(), ranges).iter().map(|key| hex(key)).collect();
        let made = Cuts { keys, seconds: self.took() };
        let made = match self.put_fact(unit, "", &made).await.or_later()? {
            Put::Ours => made,
            Put::Theirs(theirs) => theirs,
        };
        self.facts.lock().cuts.insert(unit.id, made);
        Ok(())
    }

    /// Merges ranges that nobody else merges. Answers whether there were any.
    pub(super) async fn merge_runs(&self, runs: &Runs) -> Done<bool> {
        self.mark();
        let at_once = self.config.merge_at_once.max(1);
        let windows = (runs.len() * at_once).max(1) as u64;
        let window = (self.config.sort_bytes as u64 / 2 / windows).max(LEAST_WINDOW);
        let (send, mut built) = mpsc::channel::<(Arc<Merging>, Built)>(1);
        let mut merging = FuturesUnordered::new();
        // Where the next step of each begins.
        let mut begins: HashMap<u128, String> = HashMap::new();
        let (mut any, mut is_more) = (false, true);
        loop {
            while is_more && merging.len() < at_once {
                let units = self.take(|work| matches!(work, Work::Merge(_)), |_| 1).await?;
                let Some(unit) = units.into_iter().next() else {
                    is_more = false;
                    break;
                };
                any = true;
                let Some((begin, span)) = self.span_of(&unit).or_later()? else {
                    self.put_down(&unit);
                    continue;
                };
                begins.insert(unit.id, begin);
                let runs: Vec<_> = runs.iter().map(|run| run.again().reading(window)).collect();
                let unit = Arc::new(Merging { unit, is_lost: AtomicBool::new(false) });
                let ended = self.merge_on_thread(unit.clone(), span, runs, send.clone());
                merging.push(async { (unit, ended.await) });
            }
            if merging.is_empty() && !is_more {
                return Ok(any);
            }
            tokio::select! {
                biased;
                Some((unit, segment)) = built.recv() => self.put_segment(&unit, segment, &mut begins).await?,
                Some((unit, ended)) = merging.next() => {
                    // What it has built is in the channel.
                    while let Ok((other, segment)) = built.try_recv() {
                        self.put_segment(&other, segment, &mut begins).await?;
                    }
                    if let Some(duplicate) = self.end_range(&unit, ended, &mut begins).await? {
                        return Err(Stop::Duplicate(duplicate));
                    }
                    is_more = true;
                }
            }
        }
    }

    /// What is left of a unit's range, and how the next step's name has its beginning.
    fn span_of(&self, unit: &Unit) -> Result<Option<(String, Span)>> {
        let Work::Merge(span) = &unit.work else { return Ok(None) };
        let Some(begin) = self.facts.lock().merged.entry(unit.id).or_default().cursor() else {
            return Ok(None);
        };
        let behind = if begin.is_empty() { span.behind.clone() } else { Some(unhex(&begin)?) };
        Ok(Some((begin, Span { behind, through: span.through.clone() })))
    }

    fn merge_on_thread(
        &self,
        merging: Arc<Merging>,
        span: Span,
        runs: Vec<SegmentRows>,
        send: mpsc::Sender<(Arc<Merging>, Built)>,
    ) -> impl Future<Output = Result<Option<Duplicate>>> + use<> {
        let (ids, target, on_duplicate) =
            (self.ctx.ids.clone(), self.segment_target(), self.request.on_duplicate);
        let task = self.ctx.tasks.spawn_blocking("load-merge", move || {
            let given_up = || Error::unavailable("the load was given up").with_code("load-given-up");
            let mut emit = |segment: Built| {
                if merging.is_lost.load(Ordering::Relaxed) {
                    return Err(given_up());
                }
                send.blocking_send((merging.clone(), segment)).map_err(|_| given_up())
            };
            let sink = SegmentSink::new(&*ids, WriterSettings::default(), target, &mut emit);
            merge(runs, &span, on_duplicate, sink)
        });
        async { task.await? }
    }

    async fn put_segment(
        &self,
        merging: &Merging,
        segment: Built,
        begins: &mut HashMap<u128, String>,
    ) -> Done<()> {
        self.check()?;
        if merging.is_lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        let segment = Some(self.put(segment).await.or_later()?);
        let step = MergeStep { segment, seconds: self.took() };
        self.put_merged(merging, step, begins).await
    }

    async fn put_merged(
        &self,
        merging: &Merging,
        step: MergeStep,
        begins: &mut HashMap<u128, String>,
    ) -> Done<()> {
        let (unit, next) = (&merging.unit, step.next());
        let begin = begins.get(&unit.id).cloned().unwrap_or_default();
        if self.put_step(unit, &begin, step).await.or_later()? {
            begins.insert(unit.id, next.unwrap_or_default());
        } else {
            tracing::info!(load = %self.load.id, unit = %unit.label, "another loader is further with a unit");
            merging.is_lost.store(true, Ordering::Relaxed);
        }
        self.tell_now_and_then().await;
        Ok(())
    }

    async fn end_range(
        &self,
        merging: &Merging,
        ended: Result<Option<Duplicate>>,
        begins: &mut HashMap<u128, String>,
    ) -> Done<Option<Duplicate>> {
        let is_lost = || merging.is_lost.load(Ordering::Relaxed);
        match ended {
            Err(_) if is_lost() => {}
            Err(error) => return Err(error.into()),
            Ok(Some(duplicate)) => return Ok(Some(duplicate)),
            Ok(None) if is_lost() => {}
            Ok(None) => {
                let step = MergeStep { segment: None, seconds: self.took() };
                self.put_merged(merging, step, begins).await?;
            }
        }
        begins.remove(&merging.unit.id);
        self.put_down(&merging.unit);
        Ok(None)
    }
}
