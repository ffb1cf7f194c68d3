//! Who an operator is and what was granted to them. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use carriageway_proto::id::IdError;
use carriageway_proto::{Class, ClassMap, VehicleId};

/// A person or program that watches and commands vehicles, as its token vouches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The token's `sub`: for records and logs, 1 to 128 printable characters.
    pub name: String,
    /// What may be done.
    pub scopes: Scopes,
    /// To which vehicles.
    pub vehicles: Vehicles,
    /// When the token ends, in seconds since the Unix epoch. Whatever outlives a single request, such
    /// as an event stream, ends then too.
    pub expires_unix: u64,
}

impl Operator {
    /// Whether this was granted for that vehicle.
    pub fn may(&self, permission: Permission, vehicle: &VehicleId) -> bool {
        self.scopes.grant(permission) && self.vehicles.contain(vehicle)
    }
}

/// Something an operator may be allowed to do to a vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See that it exists, its presence, its signals and its link.
    Observe,
    /// Send it commands of this class.
    Command(Class),
    /// Hold its lease, steer it, and re-arm it after a stop.
    Drive,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observe => f.write_str("observe"),
            Self::Command(class) => write!(f, "command:{class}"),
            Self::Drive => f.write_str("drive"),
        }
    }
}

/// The permissions of a token's `scope` claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    observe: bool,
    drive: bool,
    commands: ClassMap<bool>,
}

impl Scopes {
    /// Reads a space-separated list of `observe`, `command:<class>`, `command:*` and `drive`. Other words
    /// grant nothing: a token may be good for other services too.
    pub fn parse(claim: &str) -> Self {
        claim.split_ascii_whitespace().fold(Self::default(), Self::with)
    }

    /// Whether this permission is among them.
    pub fn grant(&self, permission: Permission) -> bool {
        match permission {
            Permission::Observe => self.observe,
            Permission::Command(class) => self.commands[class],
            Permission::Drive => self.drive,
        }
    }

    /// Whether there is any.
    pub fn grant_any(&self) -> bool {
        self.observe || self.drive || self.commands.iter().any(|(_, granted)| *granted)
    }

    fn with(mut self, word: &str) -> Self {
        self.observe |= word == "observe";
        self.drive |= word == "drive";
        let commands = word.strip_prefix("command:").unwrap_or_default();
        for (class, granted) in self.commands.iter_mut().filter(|(class, _)| class.is_command()) {
            *granted |= commands == "*" || Class::from_str(commands) == Ok(class);
        }
        self
    }
}

/// The vehicles of a token's `vehicles` claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vehicles {
    /// Every one, also those that join later: the claim holds `*`.
    All,
    /// These. An absent claim is an empty list.
    Only(BTreeSet<VehicleId>),
}

impl Vehicles {
    /// Reads the claim's list of ids; `*` in any place stands for all.
    pub fn parse(claim: &[String]) -> Result<Self, IdError> {
        let (stars, ids): (Vec<_>, Vec<_>) = claim.iter().partition(|id| *id == "*");
        let ids = ids.into_iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
        Ok(if stars.is_empty() { Self::Only(ids) } else { Self::All })
    }

    /// Whether this vehicle is among them.
    pub fn contain(&self, vehicle: &VehicleId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(vehicle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(scope: &str, vehicles: &[&str]) -> Operator {
        let vehicles: Vec<String> = vehicles.iter().map(ToString::to_string).collect();
        Operator {
            name: "ada".into(),
            scopes: Scopes::parse(scope),
            vehicles: Vehicles::parse(&vehicles).unwrap(),
            expires_unix: 0,
        }
    }

    #[test]
    fn a_scope_opens_its_class_and_no_other() {
        let one = "one".parse().unwrap();
        let ada = operator("observe command:body", &["*"]);
        assert!(ada.may(Permission::Observe, &one));
        for class in Class::ALL {
            assert_eq!(ada.may(Permission::Command(class), &one), class == Class::Body, "{class}");
        }
    }

    #[test]
    fn the_star_opens_every_command_class_but_never_what_no_operator_may_send() {
        let one = "one".parse().unwrap();
        let ada = operator("command:*", &["*"]);
        for class in Class::ALL {
            assert_eq!(ada.may(Permission::Command(class), &one), class.is_command(), "{class}");
        }
        assert!(!ada.may(Permission::Observe, &one), "commanding does not imply watching");
        let sly = operator("command:session command:bulk", &["*"]);
        assert!(!sly.may(Permission::Command(Class::Session), &one));
        assert!(!sly.may(Permission::Command(Class::Bulk), &one));
    }

    #[test]
    fn driving_is_a_grant_of_its_own() {
        let one = "one".parse().unwrap();
        assert!(!operator("observe command:*", &["*"]).may(Permission::Drive, &one));
        let driver = operator("drive", &["one"]);
        assert!(driver.may(Permission::Drive, &one) && driver.scopes.grant_any());
        assert!(!driver.may(Permission::Command(Class::Drive), &one), "gears are commands");
        assert!(!driver.may(Permission::Drive, &"two".parse().unwrap()));
    }

    #[test]
    fn words_that_look_alike_grant_nothing() {
        for word in [
            "",
            "command:",
            "command",
            "COMMAND:body",
            "command:Body",
            "observe,command:body",
            "*",
            "Drive",
            "drive:*",
        ] {
            assert_eq!(Scopes::parse(word), Scopes::default(), "{word:?}");
        }
    }

    #[test]
    fn only_the_vehicles_listed_are_open_and_an_empty_list_is_none() {
        let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
        let ada = operator("observe", &["one"]);
        assert!(ada.may(Permission::Observe, &one));
        assert!(!ada.may(Permission::Observe, &two));
        assert!(!operator("observe", &[]).may(Permission::Observe, &one));
        assert!(Vehicles::parse(&["a/b".to_owned()]).is_err());
    }
}
