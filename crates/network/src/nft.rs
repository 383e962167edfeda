//! nftables over netlink: tables, chains, maps and rules, changed in one transaction.
