//! A store behind a network that loses requests and answers, delays them, and sends them twice.

use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, RequestCounts,
    Upload,
};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::{Ids, SeededIds};
use nacre_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What can go wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused: certainly no effect.
    Unavailable,
    /// The request got lost; the caller is told that nobody knows.
    LostRequest,
    /// It took effect; the answer got lost.
    LostAnswer,
    /// It is still under way: the caller is told that nobody knows, and it takes effect when
    /// [`FaultyStore::deliver`] says so, if ever.
    UnderWay,
    /// It took effect, the answer got lost, and a library sent it again: the caller gets the second answer.
    SentTwice,
    /// It takes effect and the answer comes so much later.
    SlowAnswer(Duration),
    /// It took effect, and no answer ever comes.
    NoAnswer,
}

/// Which requests a scripted fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Puts, of either mode.
    Put,
    /// Gets and heads.
    Read,
    /// Deletes.
    Delete,
    /// Copies.
    Copy,
    /// Ends of uploads.
    Finish,
}

/// How often each fault happens by itself, in thousandths of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// [`Fault::Unavailable`]; the only one that meets reads.
    pub unavailable: u64,
    /// [`Fault::LostRequest`].
    pub lost_request: u64,
    /// [`Fault::LostAnswer`].
    pub lost_answer: u64,
    /// [`Fault::UnderWay`]; with every request one in eight of those under way takes effect.
    pub under_way: u64,
    /// [`Fault::SentTwice`].
    pub sent_twice: u64,
}

impl FaultRates {
    /// Some of each.
    pub fn stormy() -> Self {
        Self { unavailable: 80, lost_request: 60, lost_answer: 100, under_way: 80, sent_twice: 80 }
    }
}

/// A store whose requests go wrong by script or by seed.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ids: SeededIds,
    rates: FaultRates,
    script: VecDeque<(Operation, String, Fault)>,
    under_way: Vec<Request>,
}

enum Request {
    Put(ObjectPath, Bytes, PutMode),
    Delete(ObjectPath),
    Copy(ObjectPath, ObjectPath, ObjectTag),
    Finish(Box<dyn Upload>),
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(path, ..) => write!(f, "Put({path})"),
            Self::Delete(path) => write!(f, "Delete({path})"),
            Self::Copy(_, to, _) => write!(f, "Copy({to})"),
            Self::Finish(_) => f.write_str("Finish"),
        }
    }
}

fn nobody_knows() -> Error {
    Error::unknown("the request was sent and not answered").with_code("no-answer")
}

fn refused() -> Error {
    Error::unavailable("the store is away").with_code("store-away")
}

impl FaultyStore {
    /// No faults yet; `seed` decides those of [`FaultyStore::set_rates`].
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Arc<Self> {
        let state = State {
            ids: SeededIds::new(seed),
            rates: FaultRates::default(),
            script: VecDeque::new(),
            under_way: Vec::new(),
        };
        Arc::new(Self { inner, state: Mutex::new(state) })
    }

    /// From now on faults happen by themselves.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state.lock().rates = rates;
    }

    /// The next request of that kind whose path contains `part` meets `fault`. Scripts are met in order, each once.
    pub fn script(&self, operation: Operation, part: &str, fault: Fault) {
        self.state.lock().script.push_back((operation, part.to_owned(), fault));
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        self.state.lock().under_way.len()
    }

    /// Scripted faults that no request has met.
    pub fn unmet(&self) -> usize {
        self.state.lock().script.len()
    }

    /// The oldest request under way takes effect now (or fails, which nobody hears); `false` = there is none.
    pub async fn deliver(&self) -> bool {
        let request = {
            let mut state = self.state.lock();
            if state.under_way.is_empty() { None } else { Some(state.under_way.remove(0)) }
        };
        match request {
            Some(request) => self.take_effect(request).await,
            None => return false,
        }
        true
    }

    async fn take_effect(&self, request: Request) {
        match request {
            Request::Put(path, body, mode) => drop(self.inner.put(&path, body, mode).await),
            Request::Delete(path) => drop(self.inner.delete(&path).await),
            Request::Copy(from, to, tag) => drop(self.inner.copy(&from, &to, &tag).await),
            Request::Finish(upload) => drop(upload.finish().await),
        }
    }

    fn fault(&self, operation: Operation, path: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        let met = state
            .script
            .iter()
            .position(|(kind, part, _)| *kind == operation && path.contains(part.as_str()));
        if let Some(met) = met {
            return state.script.remove(met).map(|(_, _, fault)| fault);
        }
        let rates = state.rates;
        if rates == FaultRates::default() {
            return None;
        }
        let mut dice = state.ids.random_u64() % 1_000;
        for (rate, fault) in [
            (rates.unavailable, Fault::Unavailable),
            (rates.lost_request, Fault::LostRequest),
            (rates.lost_answer, Fault::LostAnswer),
            (rates.under_way, Fault::UnderWay),
            (rates.sent_twice, Fault::SentTwice),
        ] {
            if dice < rate {
                return (operation != Operation::Read || fault == Fault::Unavailable).then_some(fault);
            }
            dice -= rate;
        }
        None
    }

    /// Under way are those whose turn a seed decides.
    async fn deliver_some(&self) {
        let request = {
            let mut state = self.state.lock();
            if state.rates == FaultRates::default() || state.under_way.is_empty() {
                return;
            }
            let dice = state.ids.random_u64() as usize % (state.under_way.len() * 8);
            if dice < state.under_way.len() { Some(state.under_way.remove(dice)) } else { None }
        };
        if let Some(request) = request {
            self.take_effect(request).await;
        }
    }

    /// Sends a writing request through the weather.
    async fn send<T, F: Future<Output = Result<T>>>(
        &self,
        operation: Operation,
        path: &str,
        later: impl FnOnce() -> Request,
        request: impl Fn() -> F,
    ) -> Result<T> {
        self.deliver_some().await;
        match self.fault(operation, path) {
            None => request().await,
            Some(Fault::Unavailable) => Err(refused()),
            Some(Fault::LostRequest) => Err(nobody_knows()),
            Some(Fault::LostAnswer) => {
                let _ = request().await;
                Err(nobody_knows())
            }
            Some(Fault::UnderWay) => {
                self.state.lock().under_way.push(later());
                Err(nobody_knows())
            }
            Some(Fault::SentTwice) => {
                let _ = request().await;
                request().await
            }
            Some(Fault::SlowAnswer(delay)) => {
                let answer = request().await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::NoAnswer) => {
                let _ = request().await;
                std::future::pending().await
            }
        }
    }

    async fn read<T, F: Future<Output = Result<T>>>(&self, path: &str, request: impl Fn() -> F) -> Result<T> {
        self.deliver_some().await;
        match self.fault(Operation::Read, path) {
            None | Some(Fault::SentTwice) => request().await,
            Some(Fault::Unavailable | Fault::LostRequest | Fault::LostAnswer | Fault::UnderWay) => {
                Err(refused())
            }
            Some(Fault::SlowAnswer(delay)) => {
                let answer = request().await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::NoAnswer) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for Arc<FaultyStore>
where
    Self: Send,
{
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let later = || Request::Put(path.clone(), body.clone(), mode.clone());
        self.send(Operation::Put, path.as_str(), later, || self.inner.put(path, body.clone(), mode.clone()))
            .await
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.read(path.as_str(), || self.inner.get(path, options.clone())).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.read(path.as_str(), || self.inner.head(path)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let later = || Request::Delete(path.clone());
        self.send(Operation::Delete, path.as_str(), later, || self.inner.delete(path)).await
    }

    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        let later = || Request::Copy(from.clone(), to.clone(), if_tag.clone());
        self.send(Operation::Copy, to.as_str(), later, || self.inner.copy(from, to, if_tag)).await
    }

    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(path).await?;
        Ok(Box::new(FaultyUpload { store: self.clone(), path: path.clone(), inner }))
    }

    async fn date_micros(&self) -> Result<i64> {
        self.inner.date_micros().await
    }

    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.inner.local_path(path)
    }

    fn url(&self, path: &ObjectPath) -> Option<String> {
        self.inner.url(path)
    }

    async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
        self.inner.check_promises(taken).await
    }

    fn request_counts(&self) -> Option<RequestCounts> {
        self.inner.request_counts()
    }
}

struct FaultyUpload {
    store: Arc<FaultyStore>,
    path: ObjectPath,
    inner: Box<dyn Upload>,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.inner.write(part).await
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        let Self { store, path, inner } = *self;
        match store.fault(Operation::Finish, path.as_str()) {
            None => inner.finish().await,
            Some(Fault::Unavailable) => {
                inner.abort().await;
                Err(refused())
            }
            Some(Fault::LostRequest) => Err(nobody_knows()),
            Some(Fault::LostAnswer) => {
                let _ = inner.finish().await;
                Err(nobody_knows())
            }
            Some(Fault::UnderWay) => {
                store.state.lock().under_way.push(Request::Finish(inner));
                Err(nobody_knows())
            }
            Some(Fault::SentTwice) => match inner.finish().await? {
                PutOutcome::Stored(_) => Ok(PutOutcome::AlreadyExists),
                other => Ok(other),
            },
            Some(Fault::SlowAnswer(delay)) => {
                let answer = inner.finish().await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::NoAnswer) => {
                let _ = inner.finish().await;
                std::future::pending().await
            }
        }
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}
