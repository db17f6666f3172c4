//! Whom a process runs as, its limits and its protections.

use super::super::fields::Fields;
use super::super::format::{RawManifest, RawProtection, RawRlimits};
use super::super::yaml::Written;
use crate::error::{Error, Result};
use crate::model::{LimitName, Privileges, ProcessLimit, Protection};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const TRUTHS: [(&str, bool); 2] = [("true", true), ("false", false)];

pub(super) fn read(fields: Fields<'_>, raw: &RawManifest) -> Result<Privileges> {
    let user = name(fields, "user", raw.user.as_ref())?;
    let protection = raw.protection.as_ref().map(|raw| protection(fields, raw)).transpose()?.unwrap_or_default();
    let wanted = |one| protection.get(&one).copied();
    if wanted(Protection::OwnUser) == Some(true) && user.is_some() {
        return Err(fields
            .key_error(&["user"], "'user' names a user, and 'protection.own_user' asks for one that nobody else has")
            .suggest("remove one of the two"));
    }
    let no_user = user.is_some() || wanted(Protection::OwnUser) == Some(false);
    if wanted(Protection::OwnFolders) == Some(true) && no_user {
        return Err(fields
            .key_error(&["protection", "own_folders"], "only a process with a user of its own has folders of its own")
            .suggest("remove 'own_folders', or remove 'user' and 'own_user: false'"));
    }
    Ok(Privileges {
        group: name(fields, "group", raw.group.as_ref())?,
        umask: umask(fields, raw.umask.as_ref())?,
        nice: signed(fields, "nice", raw.nice.as_ref(), -20..=19)?,
        oom_score_adj: signed(fields, "oom_score_adj", raw.oom_score_adj.as_ref(), -1000..=1000)?,
        rlimits: raw.rlimits.as_ref().map(|raw| rlimits(fields, raw)).transpose()?.unwrap_or_default(),
        protection,
        user,
    })
}

fn name(fields: Fields<'_>, key: &str, value: Option<&Written>) -> Result<Option<String>> {
    let Some(written) = value else { return Ok(None) };
    let text = fields.required(&[key], Some(written), "www-data")?;
    // The kernel's largest number stands for "unchanged".
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.parse::<u32>().is_ok_and(|id| id < u32::MAX) {
        let message = format!("'{key}' must be a name or a number below {}, and is '{}'", u32::MAX, Error::echo(&text));
        return Err(fields.error(&[key], &message));
    }
    Ok(Some(text))
}

fn umask(fields: Fields<'_>, value: Option<&Written>) -> Result<Option<u32>> {
    let Some(text) = value.map(Written::as_str) else { return Ok(None) };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mask) if mask <= 0o777 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(mask)),
        _ => {
            let message = format!("'umask' must be an octal number up to 0777, and is '{}'", Error::echo(text));
            Err(fields.error(&["umask"], &message).suggest("write it as \"0027\""))
        }
    }
}

fn signed(fields: Fields<'_>, key: &str, value: Option<&Written>, range: RangeInclusive<i32>) -> Result<Option<i32>> {
    let Some(text) = value.map(Written::as_str) else { return Ok(None) };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let (low, high) = range.into_inner();
            let message =
                format!("'{key}' must be a whole number from {low} to {high}, and is '{}'", Error::echo(text));
            Err(fields.error(&[key], &message))
        }
    }
}

fn rlimits(fields: Fields<'_>, raw: &RawRlimits) -> Result<BTreeMap<LimitName, ProcessLimit>> {
    let all = [
        (LimitName::As, &raw.r#as),
        (LimitName::Core, &raw.core),
        (LimitName::Cpu, &raw.cpu),
        (LimitName::Data, &raw.data),
        (LimitName::Fsize, &raw.fsize),
        (LimitName::Locks, &raw.locks),
        (LimitName::Memlock, &raw.memlock),
        (LimitName::Msgqueue, &raw.msgqueue),
        (LimitName::Nice, &raw.nice),
        (LimitName::Nofile, &raw.nofile),
        (LimitName::Nproc, &raw.nproc),
        (LimitName::Rss, &raw.rss),
        (LimitName::Rtprio, &raw.rtprio),
        (LimitName::Rttime, &raw.rttime),
        (LimitName::Sigpending, &raw.sigpending),
        (LimitName::Stack, &raw.stack),
    ];
    let written = all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.as_str())));
    written.map(|(name, text)| Ok((name, limit(fields, name.as_str(), text)?))).collect()
}

fn limit(fields: Fields<'_>, key: &str, text: &str) -> Result<ProcessLimit> {
    let one = |text: &str| match text {
        "unlimited" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let refused = |message: &str| {
        let found = Error::echo(text);
        Err(fields
            .error(&["rlimits", key], &format!("'rlimits.{key}' {message}, and is '{found}'"))
            .suggest("write it as 4096, as unlimited, or as SOFT:HARD"))
    };
    match (one(soft), one(hard)) {
        (Some(soft), Some(hard)) if hard.is_none_or(|hard| soft.is_some_and(|soft| soft <= hard)) => {
            Ok(ProcessLimit { soft, hard })
        }
        (Some(_), Some(_)) => refused("must not have a soft limit above the hard one"),
        _ => refused("must be a number or unlimited, or two of them with a colon between"),
    }
}

fn protection(fields: Fields<'_>, raw: &RawProtection) -> Result<BTreeMap<Protection, bool>> {
    let RawProtection { no_core_dumps, no_new_privileges, killed_first, own_user, no_capabilities, own_folders } = raw;
    let all = [
        (Protection::NoCoreDumps, no_core_dumps),
        (Protection::NoNewPrivileges, no_new_privileges),
        (Protection::KilledFirst, killed_first),
        (Protection::OwnUser, own_user),
        (Protection::NoCapabilities, no_capabilities),
        (Protection::OwnFolders, own_folders),
    ];
    let mut said = BTreeMap::new();
    for (one, value) in all {
        if let Some(wanted) = fields.choice(&["protection", one.as_str()], value.as_ref(), &TRUTHS)? {
            said.insert(one, wanted);
        }
    }
    Ok(said)
}
