//! Containers come to networks and leave them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::networks::attach::check_settings;
use crate::networks::document::{Document, Driver};
use crate::networks::keep::Last;
use crate::networks::member::{Member, Up};
use crate::networks::ports;
use crate::networks::settings::{EndpointSettings, Mode, Request, is_user_defined};
use crate::networks::ways::Tasks;
use crate::networks::{Networks, kernel, new_id};
use crate::reply::Failure;

impl Networks {
    /// A container is made: what it asks for is checked and kept.
    ///
    /// # Errors
    /// In dockerd's words for what makes no sense.
    pub async fn declare(&self, mut request: Request, version: u32) -> Result<(), Failure> {
        if version < 44 && request.endpoints.len() > 1 {
            let names: Vec<&str> = request.endpoints.keys().map(String::as_str).collect();
            let words = format!("Container cannot be created with multiple network endpoints: {}", names.join(", "));
            return Err(Failure::new(400, words));
        }
        ports::complete(&mut request);
        ports::wanted(&request)?;
        self.settle(&mut request);
        for (name, settings) in &request.endpoints {
            let network = self.find(name).ok();
            check_settings(network.as_deref(), name, settings)
                .map_err(|words| Failure::new(400, format!("invalid config for network {name}: {words}")))?;
        }
        let member = Member { request, up: None };
        self.inner.keep.member(&member, Last::BeyondTheMachine).await?;
        self.inner.state.lock().members.insert(member.request.id.clone(), member);
        Ok(())
    }

    /// Puts a container's endpoints under their networks' names, its mode's among them.
    fn settle(&self, request: &mut Request) {
        let main = match request.mode() {
            Mode::Container(_) => {
                request.endpoints.clear();
                return;
            }
            Mode::Host => "host".to_owned(),
            Mode::None => "none".to_owned(),
            Mode::Network(name) => name.to_owned(),
        };
        let mut endpoints = BTreeMap::new();
        for (name, settings) in std::mem::take(&mut request.endpoints) {
            let name = if name == "default" { "bridge".to_owned() } else { name };
            endpoints.insert(self.name_of(&name), settings);
        }
        let main = self.name_of(&main);
        if endpoints.is_empty() {
            endpoints.insert(main.clone(), EndpointSettings::default());
        }
        if let Some(settings) = endpoints.get_mut(&main)
            && settings.mac_address.is_empty()
        {
            settings.mac_address = request.mac_address.clone();
        }
        request.endpoints = endpoints;
    }

    /// A network's name, if there is one of this name or id: it may be made between a container's creation and its start.
    fn name_of(&self, term: &str) -> String {
        self.find(term).map_or_else(|_| term.to_owned(), |network| network.name.clone())
    }

    /// A container starts: its links, addresses, names, ports and the files that tell it of these.
    ///
    /// # Errors
    /// In dockerd's words; it is on no network then.
    pub async fn start(&self, id: &str, netns: &Path) -> Result<(), Failure> {
        let turn = self.inner.turn(id);
        let mut tasks = turn.lock().await;
        let member = self.inner.member(id)?;
        if member.up.is_some() {
            self.leave(id, &mut tasks).await?;
        }
        if matches!(member.request.mode(), Mode::Container(_)) {
            return Ok(());
        }
        // So that it has the same addresses again.
        self.gone(|leaving| leaving.container == id).await;
        let up = Up { sandbox: new_id(), netns: netns.to_owned(), ..Up::default() };
        self.inner.change_member(id, |member| member.up = Some(up));
        let started = self.join(id, &mut tasks).await;
        if let Err(failure) = started {
            if let Err(error) = self.leave(id, &mut tasks).await {
                tracing::warn!(container = id, error = error.message, "leaving networks again");
            }
            let words = format!("failed to set up container networking: {}", failure.message);
            return Err(Failure::new(failure.status, words));
        }
        Ok(())
    }

    async fn join(&self, id: &str, tasks: &mut Tasks) -> Result<(), Failure> {
        let request = self.inner.member(id)?.request;
        let main = self.name_of(&request.mode);
        let mut endpoints: Vec<_> = request.endpoints.into_iter().collect();
        // The mode's network is `eth0`.
        endpoints.sort_by_key(|(name, _)| *name != main);
        for (name, settings) in endpoints {
            let term =
                if is_user_defined(&name) && !settings.network_id.is_empty() { &settings.network_id } else { &name };
            let network = self.find(term).or_else(|_| self.find(&name))?;
            self.attach(id, &network, &settings).await?;
        }
        self.settle_ways(id, tasks).await?;
        self.write_files(id).await?;
        self.save(id).await?;
        self.tell_all("connect", id);
        Ok(())
    }

    /// A container has stopped: it leaves its networks, whether or not it is on any.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn stop(&self, id: &str) -> Result<(), Failure> {
        let turn = self.inner.turn(id);
        let mut tasks = turn.lock().await;
        if self.inner.member(id)?.up.is_none() {
            return Ok(());
        }
        self.tell_all("disconnect", id);
        self.leave(id, &mut tasks).await
    }

    async fn leave(&self, id: &str, tasks: &mut Tasks) -> Result<(), Failure> {
        let member = self.inner.member(id)?;
        // A port is free when the kernel has forgotten it too.
        let outcome = self.inner.bridges.unpublish(id).await;
        tasks.end().await;
        self.let_go(id, member.attached().to_vec());
        self.inner.change_member(id, |member| {
            member.up = None;
            for settings in member.request.endpoints.values_mut() {
                let asked = std::mem::take(&mut settings.mac_address);
                *settings = EndpointSettings { mac_address: asked, ..settings.cleaned() };
            }
        });
        self.save(id).await?;
        outcome.map_err(kernel)
    }

    /// A container is removed.
    ///
    /// # Errors
    /// If the kernel refuses, or its document can't be removed.
    pub async fn forget(&self, id: &str) -> Result<(), Failure> {
        if self.inner.member(id).is_err() {
            return Ok(());
        }
        self.stop(id).await?;
        self.inner.keep.remove_member(id).await?;
        let mut state = self.inner.state.lock();
        state.members.remove(id);
        state.turns.remove(id);
        Ok(())
    }

    /// A container has another name, by which others find it from now on.
    ///
    /// # Errors
    /// If its document can't be written.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), Failure> {
        let turn = self.inner.turn(id);
        let _turn = turn.lock().await;
        {
            let mut state = self.inner.state.lock();
            let networks = state.networks.clone();
            let Some(member) = state.members.get_mut(id) else { return Ok(()) };
            member.request.name = name.to_owned();
            let renamed: Vec<_> = member
                .request
                .endpoints
                .iter()
                .filter_map(|(network, settings)| {
                    let network = networks.values().find(|document| document.name == *network)?;
                    Some((network.id.clone(), network.name.clone(), member.names_in(network, settings)))
                })
                .collect();
            for (id, network, names) in renamed {
                for attached in member.up.iter_mut().flat_map(|up| &mut up.attached).filter(|found| found.network == id)
                {
                    attached.names = names.clone();
                    if let Some(settings) = member.request.endpoints.get_mut(&network) {
                        settings.dns_names = Some(names.clone());
                    }
                }
            }
        }
        self.save(id).await
    }

    /// `POST /networks/{id}/connect`.
    pub(super) async fn connect(&self, id: &str, term: &str, settings: EndpointSettings) -> Result<(), Failure> {
        let turn = self.inner.turn(id);
        let mut tasks = turn.lock().await;
        let member = self.inner.member(id)?;
        if matches!(member.request.mode(), Mode::Container(_)) {
            return Err(Failure::new(400, SHARED));
        }
        let network = self.find(term)?;
        check_settings(Some(&network), &network.name, &settings).map_err(|words| Failure::new(400, words))?;
        self.check_together(&member, &network)?;
        if member.up.is_none() {
            self.inner.change_member(id, |member| {
                let names = member.names_in(&network, &settings);
                let settings = EndpointSettings { dns_names: (!names.is_empty()).then_some(names), ..settings };
                member.request.endpoints.entry(network.name.clone()).or_insert(settings);
            });
            return self.save(id).await;
        }
        if member.attached().iter().any(|attached| attached.network == network.id) {
            let name = &member.request.name;
            let words = format!("endpoint with name {name} already exists in network {}", network.name);
            return Err(Failure::new(403, words));
        }
        let before = member.request.endpoints.get(&network.name).cloned();
        self.inner.change_member(id, |member| {
            member.request.endpoints.insert(network.name.clone(), settings.clone());
        });
        let joined = match self.attach(id, &network, &settings).await {
            Ok(()) => self.settle_ways(id, &mut tasks).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = joined {
            self.detach(id, &network).await?;
            self.inner.change_member(id, |member| match before {
                Some(before) => drop(member.request.endpoints.insert(network.name.clone(), before)),
                None => drop(member.request.endpoints.remove(&network.name)),
            });
            self.settle_ways(id, &mut tasks).await?;
            return Err(failure);
        }
        self.write_files(id).await?;
        self.save(id).await?;
        self.inner.event("connect", &network, Some(id));
        Ok(())
    }

    fn check_together(&self, member: &Member, network: &Document) -> Result<(), Failure> {
        let invalid = |words: &str| Err(Failure::new(400, words));
        if network.driver == Driver::Host && member.request.mode() != Mode::Host {
            return invalid(
                "cannot connect container to host network - container must be created in host network mode",
            );
        }
        for name in member.request.endpoints.keys().filter(|name| **name != network.name) {
            if name == "host" || network.driver == Driver::Host {
                return invalid(SHARED);
            }
            if name == "none" || network.driver == Driver::Null {
                return invalid(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                );
            }
        }
        Ok(())
    }

    /// `POST /networks/{id}/disconnect`.
    pub(super) async fn disconnect(&self, id: &str, term: &str, force: bool) -> Result<(), Failure> {
        let turn = self.inner.turn(id);
        let mut tasks = turn.lock().await;
        let member = self.inner.member(id)?;
        let network = self.find(term);
        if member.up.is_none() || (network.is_err() && force) {
            let name = network.map_or_else(|_| term.to_owned(), |network| network.name.clone());
            if !member.request.endpoints.contains_key(&name) {
                return Err(Failure::new(500, format!("container {id} is not connected to the network {name}")));
            }
            self.inner.change_member(id, |member| drop(member.request.endpoints.remove(&name)));
            return self.save(id).await;
        }
        let network = network?;
        if network.driver == Driver::Host {
            let words = "cannot disconnect container from host network - container was created in host network mode";
            return Err(Failure::new(400, words));
        }
        if !member.attached().iter().any(|attached| attached.network == network.id) {
            if force {
                return Err(Failure::new(404, format!("endpoint {} not found", member.request.name)));
            }
            return Err(Failure::new(500, format!("container {id} is not connected to network {}", network.name)));
        }
        self.detach(id, &network).await?;
        self.inner.change_member(id, |member| drop(member.request.endpoints.remove(&network.name)));
        self.settle_ways(id, &mut tasks).await?;
        self.write_files(id).await?;
        self.save(id).await?;
        self.inner.event("disconnect", &network, Some(id));
        Ok(())
    }

    pub(super) async fn save(&self, id: &str) -> Result<(), Failure> {
        let member = self.inner.member(id)?;
        self.inner.keep.member(&member, Last::AsLongAsIt).await
    }

    fn tell_all(&self, action: &str, id: &str) {
        let Ok(member) = self.inner.member(id) else { return };
        for attached in member.attached() {
            if let Ok(network) = self.find(&attached.network) {
                self.inner.event(action, &network, Some(id));
            }
        }
    }
}

const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any other \
                      network";
