//! Who may be invoked where: functions, their versions and aliases, as the control plane has published them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderValue;

use super::names::{FunctionName, Location};
use crate::concurrency::{Account, AccountFigures, FunctionConcurrency, FunctionFigures};
use crate::error::EndpointError;
use crate::identifiers;
use crate::pool::Pool;

/// The version that an unqualified name means.
const LATEST: &str = "$LATEST";

/// The table of what is published.
pub struct Routes {
    location: Location,
    account: Account,
    functions: Mutex<HashMap<String, Function>>,
}

struct Function {
    concurrency: Arc<FunctionConcurrency>,
    arn: HeaderValue,
    versions: HashMap<String, Published<Pool>>,
    aliases: HashMap<String, Published<Vec<Share>>>,
}

/// What a qualifier leads to, and the ARN that ends in it.
struct Published<T> {
    arn: HeaderValue,
    to: T,
}

/// A version's share of an alias's invocations.
struct Share {
    version: String,
    /// The weights up to here, this one included.
    up_to: f64,
}

/// Where an invocation runs, and how the function sees itself called.
pub struct Target {
    pub pool: Pool,
    pub invoked_function_arn: HeaderValue,
}

impl Routes {
    pub fn new(location: Location, account: Account) -> Self {
        Self { location, account, functions: Mutex::default() }
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this name leads; `None` if it is not published.
    pub fn resolve(&self, name: &FunctionName) -> Option<Target> {
        let functions = self.lock();
        let function = functions.get(&name.name)?;
        let (pool, arn) = match name.qualifier.as_deref() {
            None => (&function.versions.get(LATEST)?.to, &function.arn),
            Some(qualifier) => {
                if let Some(version) = function.versions.get(qualifier) {
                    (&version.to, &version.arn)
                } else {
                    let alias = function.aliases.get(qualifier)?;
                    let version = pick(&alias.to)?;
                    (&function.versions.get(version)?.to, &alias.arn)
                }
            }
        };
        Some(Target { pool: pool.clone(), invoked_function_arn: arn.clone() })
    }

    /// Let invocations of this version run in `pool`. Returns the one in whose place it is.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] for a name that cannot be part of an ARN, and with
    /// [`EndpointError::Retired`].
    pub fn publish(&self, name: &str, version: &str, pool: Pool) -> Result<Option<Pool>, EndpointError> {
        let arn = self.arn(name, Some(version))?;
        let mut functions = self.lock();
        let function = self.entry(&mut functions, name)?;
        pool.limit_by(Arc::clone(&function.concurrency));
        if pool.is_retired() {
            return Err(EndpointError::Retired);
        }
        let before = function.versions.insert(version.to_owned(), Published { arn, to: pool });
        Ok(before.map(|before| before.to))
    }

    /// Forget a version, or the whole function. Returns the pools that were published.
    pub fn withdraw(&self, name: &str, version: Option<&str>) -> Vec<Pool> {
        let mut functions = self.lock();
        match version {
            None => functions
                .remove(name)
                .map(|function| function.versions.into_values().map(|version| version.to).collect())
                .unwrap_or_default(),
            Some(version) => functions
                .get_mut(name)
                .and_then(|function| function.versions.remove(version))
                .map(|version| vec![version.to])
                .unwrap_or_default(),
        }
    }

    /// Let an alias lead to versions by weight; to none of them: remove it.
    pub fn route(&self, name: &str, alias: &str, weights: &[(String, f64)]) -> Result<(), EndpointError> {
        let arn = self.arn(name, Some(alias))?;
        let mut functions = self.lock();
        if weights.is_empty() {
            if let Some(function) = functions.get_mut(name) {
                function.aliases.remove(alias);
            }
            return Ok(());
        }
        let mut sum = 0.0;
        let shares = weights
            .iter()
            .map(|(version, weight)| {
                sum += weight;
                Share { version: version.clone(), up_to: sum }
            })
            .collect();
        let function = self.entry(&mut functions, name)?;
        function.aliases.insert(alias.to_owned(), Published { arn, to: shares });
        Ok(())
    }

    /// Reserve so much concurrency for a function.
    pub fn reserve(&self, name: &str, concurrency: Option<usize>) -> Result<(), EndpointError> {
        let mut functions = self.lock();
        if concurrency.is_some() || functions.contains_key(name) {
            self.entry(&mut functions, name)?.concurrency.reserve(concurrency);
        }
        Ok(())
    }

    pub fn account_figures(&self) -> AccountFigures {
        self.account.figures()
    }

    pub fn function_figures(&self, name: &str) -> FunctionFigures {
        let functions = self.lock();
        let figures = functions.get(name).map(|function| function.concurrency.figures());
        figures.unwrap_or(FunctionFigures { reserved: None, provisioned: 0, running: 0 })
    }

    fn entry<'a>(
        &self,
        functions: &'a mut HashMap<String, Function>,
        name: &str,
    ) -> Result<&'a mut Function, EndpointError> {
        let arn = self.arn(name, None)?;
        Ok(functions.entry(name.to_owned()).or_insert_with(|| Function {
            concurrency: self.account.function(),
            arn,
            versions: HashMap::new(),
            aliases: HashMap::new(),
        }))
    }

    fn arn(&self, name: &str, qualifier: Option<&str>) -> Result<HeaderValue, EndpointError> {
        HeaderValue::try_from(self.location.arn(name, qualifier))
            .map_err(|_| EndpointError::InvalidHeader { field: "function_name" })
    }
}

/// One of the versions, by their weights.
fn pick(shares: &[Share]) -> Option<&str> {
    let [only] = shares else {
        let point = identifiers::fraction() * shares.last()?.up_to;
        let share = shares.iter().find(|share| point < share.up_to).or_else(|| shares.last())?;
        return Some(&share.version);
    };
    Some(&only.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{PoolConfig, Supply};

    fn routes() -> Routes {
        let location = Location { region: "eu-west-1".to_owned(), account_id: "123456789012".to_owned() };
        Routes::new(location, Account::new(10))
    }

    fn pool(version: &str) -> Pool {
        let config = PoolConfig {
            function_name: "orders".to_owned(),
            function_version: version.to_owned(),
            tenant_isolation: false,
            idle: None,
            subject: None,
        };
        Pool::elastic(config, &Supply::new()).unwrap()
    }

    fn resolved(routes: &Routes, qualifier: Option<&str>) -> Option<(String, String)> {
        let name = FunctionName { name: "orders".to_owned(), qualifier: qualifier.map(str::to_owned) };
        routes.resolve(&name).map(|target| {
            let version = target.pool.executed_version();
            (version.to_str().unwrap().to_owned(), target.invoked_function_arn.to_str().unwrap().to_owned())
        })
    }

    #[test]
    fn the_arn_ends_in_what_the_caller_wrote() {
        const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders";
        let routes = routes();
        for version in ["$LATEST", "3"] {
            assert!(routes.publish("orders", version, pool(version)).unwrap().is_none());
        }
        routes.route("orders", "live", &[("3".to_owned(), 1.0)]).unwrap();
        let found = |version: &str, arn: String| Some((version.to_owned(), arn));
        assert_eq!(resolved(&routes, None), found("$LATEST", ARN.to_owned()));
        assert_eq!(resolved(&routes, Some("$LATEST")), found("$LATEST", format!("{ARN}:$LATEST")));
        assert_eq!(resolved(&routes, Some("3")), found("3", format!("{ARN}:3")));
        assert_eq!(resolved(&routes, Some("live")), found("3", format!("{ARN}:live")));
        assert_eq!(resolved(&routes, Some("4")), None);
    }

    #[test]
    fn an_alias_leads_to_versions_by_weight() {
        let routes = routes();
        for version in ["1", "2"] {
            routes.publish("orders", version, pool(version)).unwrap();
        }
        let weights = [("1".to_owned(), 0.9), ("2".to_owned(), 0.1)];
        routes.route("orders", "live", &weights).unwrap();
        let second = (0..10_000).filter(|_| resolved(&routes, Some("live")).unwrap().0 == "2").count();
        // Thirteen standard deviations around 1000.
        assert!((600..1400).contains(&second), "{second}");
        routes.route("orders", "live", &[]).unwrap();
        assert_eq!(resolved(&routes, Some("live")), None);
    }

    #[test]
    fn what_takes_a_place_returns_what_was_there() {
        let routes = routes();
        let (old, new) = (pool("$LATEST"), pool("$LATEST"));
        routes.publish("orders", "$LATEST", old.clone()).unwrap();
        let before = routes.publish("orders", "$LATEST", new.clone()).unwrap().unwrap();
        assert!(before.is(&old));
        new.retire(None);
        assert!(matches!(routes.publish("orders", "$LATEST", new), Err(EndpointError::Retired)));
    }

    #[test]
    fn a_withdrawn_function_takes_its_reservation_with_it() {
        let routes = routes();
        routes.publish("orders", "1", pool("1")).unwrap();
        routes.publish("orders", "2", pool("2")).unwrap();
        routes.reserve("orders", Some(4)).unwrap();
        assert_eq!(routes.account_figures().reserved, 4);
        assert_eq!(routes.withdraw("orders", Some("1")).len(), 1);
        assert!(resolved(&routes, Some("1")).is_none() && resolved(&routes, Some("2")).is_some());
        assert_eq!(routes.withdraw("orders", None).len(), 1);
        assert!(resolved(&routes, Some("2")).is_none());
        assert_eq!(routes.account_figures().reserved, 0);
        assert!(routes.withdraw("orders", None).is_empty());
    }
}
