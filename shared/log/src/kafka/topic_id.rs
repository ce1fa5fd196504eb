//! A topic's id and replicas, by the one request that the safe interface of librdkafka lacks.
#![expect(
    unsafe_code,
    reason = "DescribeTopics is in librdkafka and not in its safe wrapper, and nothing else tells a topic that was made \
              again from the one that it was: its offsets and leader epochs may be the same"
)]

//! All of it lies in [`describe`]. Why it is sound:
//!
//! - Every object that librdkafka hands over for keeps is put into [`Kept`] at once, which destroys it once, by the
//!   function that its header names, in the reverse order of making; the client outlives them all, for it is borrowed.
//! - What is *read* from an event (topics, partitions, ids, names) belongs to the event and is copied before the event is
//!   destroyed. No pointer leaves the function.
//! - Arrays are read below the counts that came with them, and every pointer is compared with null first.
//! - The strings that go in are NUL-terminated and outlive the call, which copies them. librdkafka's functions may be
//!   called from any thread.

use super::config::TopicId;
use nacre_types::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

/// What DescribeTopics says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// Of the partition with the fewest.
    pub(super) replicas: u32,
    pub(super) in_sync: u32,
}

/// An object of librdkafka that is ours to destroy.
struct Kept<T> {
    object: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Kept<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self> {
        if object.is_null() {
            return Err(Error::internal("librdkafka made no object where it always does"));
        }
        Ok(Self { object, destroy })
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: not null, made by librdkafka for us, and destroyed nowhere else.
        unsafe { (self.destroy)(self.object) };
    }
}

/// Asks the brokers about a topic; blocks for at most about `limit`.
///
/// # Errors
/// `NotFound` (`log-topic-missing`); `Unavailable` (`log-unreachable`).
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    limit: Duration,
) -> Result<Described> {
    let silent = |why: &str| {
        Error::unavailable(format!("the brokers do not say what topic {topic} is: {why}"))
            .with_code("log-unreachable")
    };
    let limit_ms = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX / 2);
    let name =
        CString::new(topic).map_err(|_| Error::invalid("a topic's name has no NUL").with_code("log-url"))?;
    let rk = client.native_ptr();
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: see the head of this file; `names` holds one NUL-terminated string, which the call copies.
    let topics = Kept::new(
        unsafe { c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) },
        c::rd_kafka_TopicCollection_destroy,
    )?;
    // SAFETY: `rk` is a live client.
    let options = Kept::new(
        unsafe { c::rd_kafka_AdminOptions_new(rk, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS) },
        c::rd_kafka_AdminOptions_destroy,
    )?;
    let mut text: [c_char; 256] = [0; 256];
    // SAFETY: `options` lives, `text` is as long as is said.
    let set = unsafe {
        c::rd_kafka_AdminOptions_set_request_timeout(options.object, limit_ms, text.as_mut_ptr(), text.len())
    };
    if set != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(silent("its time-out is not taken"));
    }
    // SAFETY: `rk` is a live client.
    let queue = Kept::new(unsafe { c::rd_kafka_queue_new(rk) }, c::rd_kafka_queue_destroy)?;
    // SAFETY: all four live; the request keeps what it needs of them by itself, and answers into the queue.
    unsafe { c::rd_kafka_DescribeTopics(rk, topics.object, options.object, queue.object) };
    // SAFETY: the queue lives.
    let event = unsafe { c::rd_kafka_queue_poll(queue.object, limit_ms.saturating_add(1_000)) };
    if event.is_null() {
        return Err(silent("no answer in time"));
    }
    let event = Kept::new(event, c::rd_kafka_event_destroy)?;
    // SAFETY: the event lives; so does what it answers, as long.
    unsafe {
        if c::rd_kafka_event_error(event.object) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(silent(&text_of(c::rd_kafka_event_error_string(event.object))));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event.object);
        if result.is_null() {
            return Err(silent("the answer is to something else"));
        }
        let mut count = 0;
        let list = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if list.is_null() || count != 1 {
            return Err(silent(&format!("{count} topics in the answer to a question for one")));
        }
        read(*list, topic)
    }
}

/// # Safety
/// A description that lives, or null.
unsafe fn read(description: *const c::rd_kafka_TopicDescription_t, topic: &str) -> Result<Described> {
    let unreadable = |why: &str| {
        Error::unavailable(format!("the brokers do not say what topic {topic} is: {why}"))
            .with_code("log-unreachable")
    };
    if description.is_null() {
        return Err(unreadable("an empty answer"));
    }
    // SAFETY: the description lives, by this function's contract, and with it all that it answers.
    unsafe {
        let error = c::rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            let code = c::rd_kafka_error_code(error);
            let why = text_of(c::rd_kafka_error_string(error));
            return Err(match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => unreadable("an error without a code"),
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => Error::not_found(format!(
                    "there is no topic {topic} on these brokers; make it with nacre topic create"
                ))
                .with_code("log-topic-missing"),
                _ => unreadable(&why),
            });
        }
        let id = c::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Err(unreadable("the brokers give topics no ids; Kafka 2.8 or later is needed"));
        }
        // Two's complement either way: only the bits count.
        let high = c::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = c::rd_kafka_Uuid_least_significant_bits(id) as u64;
        let id = TopicId((u128::from(high) << 64) | u128::from(low));
        if id.0 == 0 {
            return Err(unreadable("the brokers give topics no ids; Kafka 2.8 or later is needed"));
        }
        let mut count = 0;
        let list = c::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        let (mut replicas, mut in_sync) = (u32::MAX, u32::MAX);
        for index in 0..if list.is_null() { 0 } else { count } {
            let partition = *list.add(index);
            if partition.is_null() {
                return Err(unreadable("a partition is missing in the answer"));
            }
            let mut nodes = 0;
            c::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut nodes);
            replicas = replicas.min(u32::try_from(nodes).unwrap_or(u32::MAX));
            c::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut nodes);
            in_sync = in_sync.min(u32::try_from(nodes).unwrap_or(u32::MAX));
        }
        let partitions = u32::try_from(count).unwrap_or(u32::MAX);
        if partitions == 0 || list.is_null() {
            return Err(unreadable("a topic without partitions"));
        }
        Ok(Described { id, partitions, replicas, in_sync })
    }
}

/// # Safety
/// A NUL-terminated string that lives, or null.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
