//! serviceaccount-token-controller: Secrets of type `kubernetes.io/service-account-token`, which people make by hand for
//! a token that doesn't expire, are filled in, and go with their account.
//!
//! Upstream signs such tokens itself and without an end. Here they are asked for like any other, bound to their Secret,
//! for the longest life that the API grants: 136 years.

use std::fmt;

use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tug_api::{Object, ObjectKey};
use tug_client::{Informer, Next, Queue};

use crate::controller::{Context, Controller, MANAGER};
use crate::error::{Result, Step, code, unless_gone};

pub(crate) const CONTROLLER: Controller = Controller { name: "serviceaccount-token-controller", account: MANAGER, run };

/// As many as upstream's `--concurrent-serviceaccount-token-syncs`.
const WORKERS: usize = 5;
const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const ROOT_CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const LONGEST_LIFE_SECONDS: i64 = 1 << 32;

/// A Secret, and the account that it is or was for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Token {
    secret: ObjectKey,
    account: String,
}

struct Tokens {
    context: Context,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = Queue::new();
        let secrets: Informer<Secret> = context.informers.of();
        let accounts: Informer<ServiceAccount> = context.informers.of();
        secrets.synced().await;
        accounts.synced().await;
        let add = queue.clone();
        secrets.subscribe(move |change| {
            if let Some(token) = token(change.object()) {
                add.add(token);
            }
        });
        let (add, of_account) = (queue.clone(), secrets.clone());
        accounts.subscribe(move |change| {
            let replaced = matches!((&change.old, &change.new), (Some(old), Some(new)) if old.meta.uid != new.meta.uid);
            if change.new.is_some() && !replaced {
                return;
            }
            let account = &change.object().key;
            let tokens = of_account.objects_in(&account.namespace).into_iter().filter_map(|secret| token(&secret));
            tokens.filter(|token| token.account == account.name).for_each(|token| add.add(token));
        });
        let tokens = Tokens { context: context.clone(), secrets, accounts };
        context.work(queue, WORKERS, async |token| tokens.reconcile(&token).await).await;
    })
}

/// Read from the annotation that every such Secret has, so that others needn't be decoded.
fn token(secret: &Object) -> Option<Token> {
    let account = secret.meta.annotations.get(ACCOUNT).filter(|account| !account.is_empty())?;
    Some(Token { secret: secret.key.clone(), account: account.clone() })
}

impl Tokens {
    async fn reconcile(&self, token: &Token) -> Result<Next> {
        let namespace = &token.secret.namespace;
        let Some(secret) = self.secrets.get(namespace, &token.secret.name) else {
            self.forget(token).await?;
            return Ok(Next::Wait);
        };
        if secret.type_.as_deref() != Some(TYPE) {
            return Ok(Next::Wait);
        }
        let uid = secret.metadata.annotations.iter().flatten().find(|(name, _)| *name == ACCOUNT_UID);
        let is_meant = |account: &ServiceAccount| uid.is_none_or(|(_, uid)| account.metadata.uid.as_ref() == Some(uid));
        let account = match self.accounts.get(namespace, &token.account) {
            Some(account) if is_meant(&account) => Some(account.as_ref().clone()),
            // Perhaps it was made just now.
            _ => {
                let accounts = Api::<ServiceAccount>::namespaced(self.context.client.clone(), namespace);
                accounts.get_opt(&token.account).await.step("looking for the account")?.filter(is_meant)
            }
        };
        match account {
            Some(account) => self.fill_in(&secret, &account).await?,
            None => self.delete(token, &secret).await?,
        }
        Ok(Next::Wait)
    }

    async fn fill_in(&self, secret: &Secret, account: &ServiceAccount) -> Result<()> {
        let root_ca = &self.context.settings.root_ca;
        let has = |key: &str| secret.data.iter().flatten().any(|(name, value)| name == key && !value.0.is_empty());
        let has_ca = root_ca.is_empty()
            || secret.data.iter().flatten().any(|(name, value)| name == ROOT_CA && value.0 == root_ca.as_bytes());
        if has_ca && has(NAMESPACE) && has(TOKEN) {
            return Ok(());
        }
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let name = secret.metadata.name.clone().unwrap_or_default();
        let mut filled = secret.clone();
        let data = filled.data.get_or_insert_default();
        if !has_ca {
            data.insert(ROOT_CA.into(), ByteString(root_ca.clone().into()));
        }
        if !has(NAMESPACE) {
            data.insert(NAMESPACE.into(), ByteString(namespace.clone().into()));
        }
        if !has(TOKEN) {
            let Some(token) = self.request(&namespace, secret, account).await? else { return Ok(()) };
            data.insert(TOKEN.into(), ByteString(token.into()));
        }
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT.into(), account.metadata.name.clone().unwrap_or_default());
        annotations.insert(ACCOUNT_UID.into(), account.metadata.uid.clone().unwrap_or_default());
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), &namespace);
        unless_outdated(secrets.replace(&name, &PostParams::default(), &filled).await).step("filling in a token")?;
        Ok(())
    }

    /// A token that holds as long as the Secret and the account. `None` if one of them is gone by now.
    async fn request(&self, namespace: &str, secret: &Secret, account: &ServiceAccount) -> Result<Option<String>> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: None,
                expiration_seconds: Some(LONGEST_LIFE_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Secret".into()),
                    name: secret.metadata.name.clone(),
                    uid: secret.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.context.client.clone(), namespace);
        let name = account.metadata.name.as_deref().unwrap_or_default();
        let issued = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let issued = unless_outdated(issued).step("asking for a token")?;
        Ok(issued.and_then(|issued| issued.status).and_then(|status| status.token))
    }

    async fn delete(&self, token: &Token, secret: &Secret) -> Result<()> {
        let preconditions = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        let delete = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), &token.secret.namespace);
        unless_outdated(secrets.delete(&token.secret.name, &delete).await).step("deleting an account's token")?;
        Ok(())
    }

    /// Takes a Secret that is gone off its account's list.
    async fn forget(&self, token: &Token) -> Result<()> {
        let namespace = &token.secret.namespace;
        let Some(account) = self.accounts.get(namespace, &token.account) else { return Ok(()) };
        let is_gone = |name: Option<&str>| name == Some(token.secret.name.as_str());
        if !account.secrets.iter().flatten().any(|secret| is_gone(secret.name.as_deref())) {
            return Ok(());
        }
        let mut account = account.as_ref().clone();
        account.secrets.iter_mut().for_each(|secrets| secrets.retain(|secret| !is_gone(secret.name.as_deref())));
        let accounts = Api::<ServiceAccount>::namespaced(self.context.client.clone(), namespace);
        let replaced = accounts.replace(&token.account, &PostParams::default(), &account).await;
        unless_gone(replaced).step("taking a token off its account's list")?;
        Ok(())
    }
}

/// What has changed since it was read comes here again.
fn unless_outdated<T>(outcome: kube::Result<T>) -> kube::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(None),
        Err(error) => Err(error),
    }
}
