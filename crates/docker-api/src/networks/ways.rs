//! The ways out of a container and into it, which follow from its endpoints: its default routes, its ports, its resolver,
//! and the files that tell it of names.

use std::net::IpAddr;

use ipnet::IpNet;
use tug_network::bridges::Publication;

use crate::networks::member::{Attached, Member, Up};
use crate::networks::ports::{self, Held};
use crate::networks::{Networks, files, kernel, names};
use crate::reply::Failure;

/// What this process does for a running container.
#[derive(Default)]
pub struct Tasks {
    held: Vec<Held>,
    /// Its resolver, if it has one.
    resolver: Option<names::Resolver>,
}

impl Tasks {
    /// Ends all of it; its ports are free then.
    pub(super) async fn end(&mut self) {
        self.resolver = None;
        Held::free(std::mem::take(&mut self.held)).await;
    }
}

impl Networks {
    /// Where packets leave, which ports lead in and whether there is a resolver follow from the endpoints.
    pub(super) async fn settle_ways(&self, id: &str, tasks: &mut Tasks) -> Result<(), Failure> {
        let member = self.inner.member(id)?;
        let Some(up) = &member.up else { return Ok(()) };
        let gateways = up.gateways();
        if !gateways.is_empty() {
            self.inner.bridges.route(&up.netns, &gateways).await.map_err(kernel)?;
        }
        self.publish(&member, tasks).await?;
        if up.has_resolver() && tasks.resolver.is_none() {
            tasks.resolver = Some(names::serve(self, &member, up).await?);
        }
        if !up.has_resolver() {
            tasks.resolver = None;
        }
        Ok(())
    }

    async fn publish(&self, member: &Member, tasks: &mut Tasks) -> Result<(), Failure> {
        let (id, Some(up)) = (&member.request.id, &member.up) else { return Ok(()) };
        let ways = [up.leaving(false), up.leaving(true)];
        let targets = targets(up);
        let mut no_longer = Vec::new();
        if targets == (None, None) {
            no_longer = std::mem::take(&mut tasks.held);
        } else if tasks.held.is_empty() {
            tasks.held = self.take_ports(member, ways, targets).await?;
        }
        for held in &tasks.held {
            let target = if held.binding.host_ip.is_ipv4() { targets.0 } else { targets.1.or(targets.0) };
            held.lead_to(target);
        }
        let bindings: Vec<_> = tasks.held.iter().map(|held| held.binding).collect();
        self.inner.change_member(id, |member| {
            member.up.iter_mut().for_each(|up| up.bindings = bindings.clone());
        });
        let published = publication(&self.inner.member(id)?);
        let done = self.inner.bridges.publish(&published).await;
        // Free when the kernel has forgotten them too.
        Held::free(no_longer).await;
        done.map_err(|error| programming(member, ways, &error.to_string()))
    }

    /// All that the container wants published, or nothing.
    async fn take_ports(
        &self,
        member: &Member,
        ways: [Option<&Attached>; 2],
        targets: (Option<IpAddr>, Option<IpAddr>),
    ) -> Result<Vec<Held>, Failure> {
        let network = ways[0].and_then(|way| self.find(&way.network).ok());
        let default = network.and_then(|network| network.binding_address());
        let mut held = Vec::new();
        for wanted in ports::wanted(&member.request)? {
            let addresses = ports::addresses(&wanted, default, targets.0.is_some(), targets.1.is_some());
            match self.inner.host_ports.take(&wanted, &addresses).await {
                Ok(taken) => held.extend(taken),
                Err(failure) => {
                    Held::free(held).await;
                    return Err(programming(member, ways, &failure.message));
                }
            }
        }
        Ok(held)
    }

    /// What a daemon before this one did for a running container is done by this one.
    pub(super) async fn take_back(&self, member: &Member) {
        let (id, Some(up)) = (&member.request.id, &member.up) else { return };
        let turn = self.inner.turn(id);
        let mut tasks = turn.lock().await;
        let targets = targets(up);
        for binding in &up.bindings {
            let held = self.inner.host_ports.take_back(*binding);
            held.lead_to(if binding.host_ip.is_ipv4() { targets.0 } else { targets.1.or(targets.0) });
            tasks.held.push(held);
        }
        if up.has_resolver() {
            match names::serve(self, member, up).await {
                Ok(resolver) => tasks.resolver = Some(resolver),
                Err(failure) => tracing::warn!(container = id, error = failure.message, "its resolver is gone"),
            }
        }
    }

    pub(super) async fn write_files(&self, id: &str) -> Result<(), Failure> {
        let member = self.inner.member(id)?;
        if member.request.dir.as_os_str().is_empty() {
            return Ok(());
        }
        let others = self.linked(&member);
        let config = self.inner.config.clone();
        let host = self.find("bridge").ok().and_then(|bridge| bridge.pool(false).and_then(|pool| pool.gateway));
        let written = tokio::task::spawn_blocking(move || files::write(&config, &member, &others, host)).await;
        let written = written.map_err(std::io::Error::other).and_then(|written| written);
        written.map_err(|error| Failure::new(500, format!("writing hosts and resolv.conf: {error}")))
    }

    /// Addresses of containers that this one is linked to on the default bridge, with their names.
    pub(super) fn linked(&self, member: &Member) -> Vec<(IpAddr, Vec<String>)> {
        let state = self.inner.state.lock();
        let address = |link: &String| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let (name, alias) = (name.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias));
            let found = |member: &&Member| member.request.name == name || member.request.id.starts_with(name);
            let other = state.members.values().find(found)?;
            let attached = other.attached().iter().find(|attached| attached.network_name == "bridge")?;
            let names = vec![alias.to_owned(), other.request.hostname.clone(), other.request.name.clone()];
            Some((attached.ipv4?.addr(), names))
        };
        member.request.links.iter().filter_map(address).collect()
    }
}

fn programming(member: &Member, ways: [Option<&Attached>; 2], why: &str) -> Failure {
    let endpoint = ways.into_iter().flatten().next().map(|way| way.id.clone()).unwrap_or_default();
    let name = &member.request.name;
    Failure::new(500, format!("driver failed programming external connectivity on endpoint {name} ({endpoint}): {why}"))
}

/// The container's addresses that its ports lead to.
fn targets(up: &Up) -> (Option<IpAddr>, Option<IpAddr>) {
    let address = |net: Option<IpNet>| net.map(|net| net.addr());
    (up.leaving(false).and_then(|way| address(way.ipv4)), up.leaving(true).and_then(|way| address(way.ipv6)))
}

/// What the kernel is to publish of a container.
pub(super) fn publication(member: &Member) -> Publication {
    let ports = member.up.as_ref().map(|up| {
        let (ipv4, ipv6) = targets(up);
        up.bindings.iter().filter_map(|binding| binding.published(ipv4, ipv6)).collect()
    });
    Publication { id: member.request.id.clone(), ports: ports.unwrap_or_default() }
}
