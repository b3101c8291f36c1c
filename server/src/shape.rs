//! What answers look like (spec, section 7): names as in section 3 and in run-info.

mod message;
mod past;
mod project;
mod run;
mod start;
mod task;
mod view;

pub(crate) use message::{LinkShape, Messages, Parent, Posted, ProjectPost, V1Post, one as message_shape};
pub(crate) use past::{Counted, Events, Found, Happened, OpenQuestion, PastState, SearchResult};
pub(crate) use project::{HomeDirs, NewProject, Project, Projects, Stats};
pub(crate) use run::{FileLink, FileText, Flat, FlatRun, Run, V1Run, V1Runs};
pub(crate) use start::{
    AttachMode, Deleted, Gc, GcDone, LoopConfig, NewJob, NewTask, Resume, Started, Stop, Stopped, Stopping,
    ThreadParent,
};
pub(crate) use task::{Around, TaskDetail, TaskItem, V1Tasks, queue_position};
pub(crate) use view::View;

use serde::Serialize;
use utoipa::ToSchema;

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// How many there are in all.
    pub(crate) total: usize,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) has_more: bool,
}

impl<T> Page<T> {
    pub(crate) fn new(items: Vec<T>, total: usize, limit: usize, offset: usize) -> Self {
        let has_more = offset.saturating_add(items.len()) < total;
        Self { items, total, limit, offset, has_more }
    }
}
