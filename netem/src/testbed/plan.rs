//! Names and addresses of a testbed.

use std::net::Ipv4Addr;

use super::StartError;

/// Most vehicles: one octet of the addresses.
pub const MOST_VEHICLES: usize = 250;
/// Most paths per vehicle.
pub const MOST_PATHS: usize = 8;
/// Longest name of a path: with `v250-` in front it is still an interface name.
const LONGEST_PATH_NAME: usize = 10;

/// The address that the net side answers on, over every path.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 1);

/// Address of a vehicle on a path; both counted from zero.
pub const fn vehicle_address(vehicle: usize, path: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200 + path as u8, 1 + vehicle as u8, 2)
}

/// Address of the other end of that path.
pub const fn net_address(vehicle: usize, path: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200 + path as u8, 1 + vehicle as u8, 1)
}

/// The interface at the other end.
pub(super) fn net_interface(vehicle: usize, path: &str) -> String {
    format!("v{}-{path}", vehicle + 1)
}

/// Checks numbers and names.
pub(super) fn check(vehicles: usize, paths: &[&str]) -> Result<(), StartError> {
    let fault = |why: String| Err(StartError::Plan { why });
    if vehicles == 0 || vehicles > MOST_VEHICLES {
        return fault(format!("{vehicles} vehicles; ask for 1 to {MOST_VEHICLES}"));
    }
    if paths.is_empty() || paths.len() > MOST_PATHS {
        return fault(format!("{} paths; give 1 to {MOST_PATHS}", paths.len()));
    }
    for (index, name) in paths.iter().enumerate() {
        let fits = !name.is_empty() && name.len() <= LONGEST_PATH_NAME;
        if !fits || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || *name == "lo" {
            return fault(format!(
                "path `{name}`; name it with 1 to {LONGEST_PATH_NAME} letters and digits, like lte0"
            ));
        }
        if paths[..index].contains(name) {
            return fault(format!("two paths are called `{name}`; give each its own name"));
        }
    }
    Ok(())
}
