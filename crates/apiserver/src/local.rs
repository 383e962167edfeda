//! The door for parts in the server's own process: requests without sockets, and informers that share the server's
//! objects instead of copying them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use http::Request;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tug_api::{FieldSelector, Kind, Object, Selector, kinds};
use tug_client::{Scope, Source, SourceEvent};

use crate::api::{Api, Caller, Inbound};
use crate::auth::User;
use crate::cache::{Select, Subscription, WatchKind};
use crate::rbac::Attributes;
use crate::registry::served;
use crate::request::single_name;

/// Events between the cache and an informer; a slow informer slows its own feed only.
const QUEUE: usize = 256;
/// Between attempts at something that isn't allowed or isn't served.
const RETRY: Duration = Duration::from_secs(5);

/// A client whose requests go through authorization as any other's.
pub fn client(api: Arc<Api>, user: Arc<User>) -> kube::Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (api, user) = (api.clone(), user.clone());
        async move {
            let (parts, body) = request.into_parts();
            Ok::<_, Infallible>(api.handle(Caller::Part(&user), parts, Inbound::Part(body)).await)
        }
    });
    kube::Client::new(service, "default")
}

/// A feed of the cache's own objects.
pub struct Local {
    api: Arc<Api>,
    user: Arc<User>,
}

impl Local {
    pub fn new(api: Arc<Api>, user: Arc<User>) -> Self {
        Self { api, user }
    }
}

impl Source for Local {
    fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
        let (events, stream) = mpsc::channel(QUEUE);
        let feed = Feed { api: self.api.clone(), user: self.user.clone(), scope, events };
        tokio::spawn(async move {
            let stop = feed.api.stop.clone();
            tokio::select! {
                () = feed.run() => {}
                () = stop.cancelled() => {}
            }
        });
        Box::pin(ReceiverStream::new(stream))
    }
}

/// One informer's feed.
struct Feed {
    api: Arc<Api>,
    user: Arc<User>,
    scope: Scope,
    events: mpsc::Sender<SourceEvent>,
}

/// The informer is gone.
struct Gone;

impl Feed {
    async fn run(self) {
        loop {
            match self.start() {
                Ok((kind, select)) => {
                    if self.follow(kind, select).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    tracing::warn!(user = self.user.name, plural = self.scope.plural, why, "cannot follow");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.events.closed() => return,
                    }
                }
            }
        }
    }

    /// What to follow, if that is allowed.
    fn start(&self) -> Result<(&'static Kind, Select), String> {
        let Scope { group, version, plural, namespace, labels, fields } = &self.scope;
        // As over HTTP: who follows one name needs the right to that one only.
        let name = single_name(fields).unwrap_or_default();
        for verb in ["list", "watch"] {
            let attributes = Attributes {
                user: &self.user,
                verb,
                group,
                version,
                resource: plural,
                subresource: "",
                namespace,
                name: &name,
                path: "",
                is_resource: true,
                fields,
            };
            let decision = self.api.access.authorizer.authorize(&attributes);
            if !decision.allowed {
                return Err(attributes.forbidden(&decision).message);
            }
        }
        let kind = kinds::by_resource(group, version, plural).ok_or("no such resource")?;
        let labels = Selector::parse(labels).map_err(|error| error.to_string())?;
        let fields = FieldSelector::parse(fields).map_err(|error| error.to_string())?;
        Ok((kind, Select { namespace: namespace.clone(), labels, fields }))
    }

    /// Ends when its place in the stream of changes is lost.
    async fn follow(&self, kind: &'static Kind, select: Select) -> Result<(), Gone> {
        let cache = &self.api.registry.cache;
        let Ok(subscription) = cache.subscribe(kind, select.clone(), None) else { return Ok(()) };
        let Subscription { first, mut events, revision } = subscription;
        self.send(SourceEvent::Restart).await?;
        for event in first {
            self.send(SourceEvent::Applied(in_version(kind, event.object))).await?;
        }
        self.send(SourceEvent::Synced).await?;
        self.send(SourceEvent::Reached(revision)).await?;
        let mut reached = revision;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.events.closed() => return Err(Gone),
            };
            let Some(event) = event else {
                // Too slow: what was missed is still held, or all is told anew.
                let Ok(again) = cache.subscribe(kind, select.clone(), Some(reached)) else { return Ok(()) };
                reached = again.revision;
                events = again.events;
                for event in again.first {
                    self.tell(kind, event.kind, event.object).await?;
                }
                continue;
            };
            reached = reached.max(event.object.revision);
            self.tell(kind, event.kind, event.object).await?;
        }
    }

    async fn tell(&self, kind: &'static Kind, what: WatchKind, object: Arc<Object>) -> Result<(), Gone> {
        let object = in_version(kind, object);
        self.send(match what {
            WatchKind::Added | WatchKind::Modified => SourceEvent::Applied(object),
            WatchKind::Deleted => SourceEvent::Deleted(object),
        })
        .await
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

fn in_version(kind: &'static Kind, object: Arc<Object>) -> Arc<Object> {
    served(kind, object.clone()).unwrap_or(object)
}
