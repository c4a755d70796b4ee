//! Carries out moves of slots: the task around the [`Mover`].
//!
//! It makes the mover's requests as a native client's calls are made, has the apply stage take its
//! looks, and hears from the event loop which groups are led here and that the controller's state
//! has changed.

mod stops;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kontiki_replica::{
    Answer, Caller, Failure, Found, Host, Mover, MoverLimits, MoverOutput, Report, Target,
};
use kontiki_types::{GroupId, Term};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};

use stops::Stops;

use crate::clock;
use crate::event_loop::Input;
use crate::metrics::side_name;
use crate::shared::Shared;

/// The number of the mover's session among this node's connections, which count up from 1.
const SESSION: u64 = u64::MAX;

/// The task sleeps no longer, whatever there is to do.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What the event loop tells the task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// This node leads the group in this term, or does not lead it.
    Role(GroupId, Option<Term>),
    /// The controller's machine here, if there is one, has been told something.
    Controller,
    /// There is no replica of the controller here any more.
    NoController,
    /// There is a newer configuration.
    Epoch,
}

/// Where the event loop puts it.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    news: Mutex<Vec<News>>,
    arrived: Notify,
}

impl Moving {
    pub(crate) fn tell(&self, news: News) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        self.arrived.notify_one();
    }

    fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came of a request or look.
enum Came {
    Answer(u64, Answer),
    Found(u64, Option<Box<Found>>),
}

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut mover = Mover::new(node.client_id(SESSION), MoverLimits::default());
    let stops = Stops::new(node.settings.move_stops.clone(), node.id);
    let mut open = JoinSet::new();
    loop {
        let now = clock::now();
        mover.set_time(now, node.log_time());
        for output in mover.poll() {
            if let (Some(stops), MoverOutput::Report(Report::Stage { side, stage, .. })) =
                (&stops, &output)
            {
                tokio::select! {
                    _ = stop.changed() => return,
                    () = stops.pass(*side, *stage) => {}
                }
            }
            carry_out(&node, output, &mut open);
        }
        let wait = mover.next_deadline().since(now).min(SLEEP_MAX);
        tokio::select! {
            _ = stop.changed() => return,
            () = node.moving.arrived.notified() => {}
            Some(Ok(came)) = open.join_next(), if !open.is_empty() => hear(&mut mover, came),
            () = tokio::time::sleep(wait) => {}
        }
        mover.set_time(clock::now(), node.log_time());
        for news in node.moving.take() {
            match news {
                News::Role(group, leads) => mover.role(group, leads),
                News::Controller => {
                    mover.set_hears_controller(true);
                    mover.controller_changed();
                }
                News::Epoch => mover.controller_changed(),
                News::NoController => mover.set_hears_controller(false),
            }
        }
        while let Some(Ok(came)) = open.try_join_next() {
            hear(&mut mover, came);
        }
    }
}

fn hear(mover: &mut Mover, came: Came) {
    match came {
        Came::Answer(ticket, answer) => mover.answer(ticket, answer),
        Came::Found(ticket, found) => mover.looked(ticket, found.map(|found| *found)),
    }
}

fn carry_out(node: &Arc<Shared>, output: MoverOutput, open: &mut JoinSet<Came>) {
    match output {
        MoverOutput::Ask { ticket, to, ask } => {
            let (sender, answer) = oneshot::channel();
            let caller = Caller { connection: 0, ticket: node.registry.call(sender) };
            node.events.send(Input::Ask { to: Target::Group(to), caller, ask });
            open.spawn(async move {
                // The node ends, if nobody answers.
                let answer = answer.await.unwrap_or(Answer::Failed(Failure::Unknown));
                Came::Answer(ticket, answer)
            });
        }
        MoverOutput::Look { ticket, group, look } => {
            let (taken, found) = oneshot::channel();
            node.events.send(Input::Look { group, look, taken });
            open.spawn(async move {
                Came::Found(ticket, found.await.unwrap_or_default().map(Box::new))
            });
        }
        MoverOutput::Slow { group, slots } => node.events.send(Input::Slow { group, slots }),
        MoverOutput::Report(report) => show(node, report),
    }
}

fn show(node: &Shared, report: Report) {
    let metrics = &node.metrics.moves;
    match report {
        Report::Stage { id, attempt, side, stage } => {
            debug!(%id, attempt, side = side_name(side), %stage, "move: another stage");
            metrics.side_is_at(id, side, Some(stage));
        }
        Report::Left { id, side } => metrics.side_is_at(id, side, None),
        Report::Began { id, attempt } => {
            info!(%id, attempt, "move: copying");
            metrics.attempts.inc();
        }
        Report::Sent { id, bytes } => {
            debug!(%id, bytes, "move: sent");
            metrics.sent(id, bytes);
        }
        Report::Freezing { id } => info!(%id, "move: freezing"),
        Report::Committed { id } => info!(%id, "move: committed"),
        Report::Done { id, bytes, freeze } => {
            let freeze_ms = freeze.map(|freeze| freeze.as_secs_f64() * 1000.0);
            info!(%id, bytes, freeze_ms, "move: the target serves");
            metrics.done.inc();
            if let Some(freeze) = freeze {
                metrics.froze(id, freeze);
            }
        }
        Report::GivenUp { id, why } => {
            info!(%id, ?why, "move: the attempt is given up");
            metrics.given_up.inc();
        }
    }
}
