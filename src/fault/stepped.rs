//! The store and the broker as the stages see them: each request names its step.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Step, within};
use crate::landing::broker::{Broker, BrokerError, Met, RecordAt, TopicView};
use crate::store::{Condition, ETag, Object, ObjectStore, Page, StoreError};

/// What can be asked only within a step.
#[derive(Debug)]
pub struct Stepped<T: ?Sized>(Arc<T>);

/// The same within one step.
#[derive(Debug)]
pub struct At<'a, T: ?Sized> {
    step: Step,
    inner: &'a T,
}

impl<T: ?Sized> Stepped<T> {
    /// From now on each request names its step.
    pub fn new(inner: Arc<T>) -> Self {
        Self(inner)
    }

    /// To ask within this step.
    pub fn at(&self, step: Step) -> At<'_, T> {
        let inner = &*self.0;
        At { step, inner }
    }
}

impl<T: ?Sized> Clone for Stepped<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[async_trait]
impl ObjectStore for At<'_, dyn ObjectStore> {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        within(self.step, || self.inner.put(key, body, condition)).await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        within(self.step, || self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        within(self.step, || self.inner.get_range(key, range)).await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        within(self.step, || self.inner.head(key)).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        within(self.step, || self.inner.list_page(prefix, from)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        within(self.step, || self.inner.delete(key)).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[async_trait]
impl Broker for At<'_, dyn Broker> {
    async fn topic(&self) -> Result<Option<TopicView>, BrokerError> {
        within(self.step, || self.inner.topic()).await
    }

    async fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerError> {
        within(self.step, || self.inner.watermarks(partition)).await
    }

    async fn offset_for_time(
        &self,
        partition: i32,
        time_ms: i64,
    ) -> Result<Option<i64>, BrokerError> {
        within(self.step, || self.inner.offset_for_time(partition, time_ms)).await
    }

    async fn committed(&self, partition: i32) -> Result<Option<i64>, BrokerError> {
        within(self.step, || self.inner.committed(partition)).await
    }

    async fn record_at(&self, partition: i32, offset: i64) -> Result<RecordAt, BrokerError> {
        within(self.step, || self.inner.record_at(partition, offset)).await
    }

    async fn first_at(&self, partition: i32, offset: i64) -> Result<Met, BrokerError> {
        within(self.step, || self.inner.first_at(partition, offset)).await
    }
}
