//! `MessagePack` in place: finds the values of a map's fields and replaces them, without decoding the rest.

/// The type of an extension that holds sealed bytes.
const EXT_SEALED: u8 = 1;

/// Bytes that are not the `MessagePack` they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Is shown a path and its value, and answers what to put there; `None` leaves it.
pub(super) type Replace<'a, E> = &'a mut dyn FnMut(&str, &[u8]) -> Replaced<E>;

/// What is put in a value's place.
pub(super) type Replaced<E> = Result<Option<Vec<u8>>, E>;

/// Shows the value of each path to `replace`, and answers the payload with what that puts in their place; `None` if nothing
/// is replaced. A path's parts are joined by dots, each the name of a map's field; where a list stands between two, it goes on
/// in each of its maps.
pub(super) fn replace<E: From<Broken>>(
    payload: &[u8],
    paths: &[&str],
    replace: Replace<'_, E>,
) -> Result<Option<Vec<u8>>, E> {
    let mut rewriting = Rewriting { payload, copied: 0, out: Vec::new() };
    let mut at = 0;
    let paths: Vec<(&str, &str)> = paths.iter().map(|path| (*path, *path)).collect();
    rewriting.map(&mut at, &paths, replace)?;
    if rewriting.copied == 0 {
        return Ok(None);
    }
    rewriting.out.extend_from_slice(&payload[rewriting.copied..]);
    Ok(Some(rewriting.out))
}

struct Rewriting<'a> {
    payload: &'a [u8],
    /// Up to here, everything is in `out`.
    copied: usize,
    out: Vec<u8>,
}

impl Rewriting<'_> {
    /// Goes through one map. `paths` are whole paths, each with what is left of it here.
    fn map<E: From<Broken>>(
        &mut self,
        at: &mut usize,
        paths: &[(&str, &str)],
        replace: Replace<'_, E>,
    ) -> Result<(), E> {
        let payload = self.payload;
        let Some(fields) = map_len(payload, at)? else {
            *at = skip(payload, *at)?;
            return Ok(());
        };
        for _ in 0..fields {
            let key_at = *at;
            *at = skip(payload, key_at)?;
            let name = text(&payload[key_at..*at]);
            if let Some((path, _)) = name.and_then(|name| paths.iter().find(|(_, left)| *left == name)) {
                let value_at = *at;
                *at = skip(payload, value_at)?;
                if let Some(other) = replace(path, &payload[value_at..*at])? {
                    self.out.extend_from_slice(&payload[self.copied..value_at]);
                    self.out.extend_from_slice(&other);
                    self.copied = *at;
                }
                continue;
            }
            let below: Vec<_> = paths
                .iter()
                .filter_map(|(path, left)| {
                    let left = left.strip_prefix(name?)?.strip_prefix('.')?;
                    Some((*path, left))
                })
                .collect();
            if below.is_empty() {
                *at = skip(payload, *at)?;
            } else {
                self.maps(at, &below, replace)?;
            }
        }
        Ok(())
    }

    /// Goes through one map, or through each map of a list: the fields of all of them go by the same path.
    fn maps<E: From<Broken>>(
        &mut self,
        at: &mut usize,
        paths: &[(&str, &str)],
        replace: Replace<'_, E>,
    ) -> Result<(), E> {
        let items = list_len(self.payload, at)?;
        for _ in 0..items.unwrap_or(1) {
            self.map(at, paths, replace)?;
        }
        Ok(())
    }
}

/// Whether there is nothing in a value: nil, or a text without letters.
pub(super) const fn is_empty(value: &[u8]) -> bool {
    matches!(value, [0xc0 | 0xa0] | [0xd9, 0])
}

/// Whether a payload may hold something sealed. What does not have one of three bytes anywhere surely does not, and need not
/// be gone through.
pub(super) fn may_hold_sealed(payload: &[u8]) -> bool {
    payload.iter().any(|byte| matches!(byte, 0xc7..=0xc9))
}

/// The sealed bytes that a value holds, if it does.
pub(super) fn sealed(value: &[u8]) -> Option<&[u8]> {
    match value {
        [0xc7, _, EXT_SEALED, sealed @ ..]
        | [0xc8, _, _, EXT_SEALED, sealed @ ..]
        | [0xc9, _, _, _, _, EXT_SEALED, sealed @ ..] => Some(sealed),
        _ => None,
    }
}

/// A value that holds sealed bytes.
pub(super) fn seal(sealed: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(6 + sealed.len());
    if let Ok(length) = u8::try_from(sealed.len()) {
        value.extend_from_slice(&[0xc7, length]);
    } else if let Ok(length) = u16::try_from(sealed.len()) {
        value.push(0xc8);
        value.extend_from_slice(&length.to_be_bytes());
    } else {
        value.push(0xc9);
        value.extend_from_slice(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    value.push(EXT_SEALED);
    value.extend_from_slice(sealed);
    value
}

/// A short text as a value.
pub(super) fn short_text(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(31)];
    let mut value = vec![0xa0 | u8::try_from(text.len()).unwrap_or(0)];
    value.extend_from_slice(text);
    value
}

fn text(value: &[u8]) -> Option<&str> {
    let ([0xa0..=0xbf, bytes @ ..] | [0xd9, _, bytes @ ..] | [0xda, _, _, bytes @ ..]) = value else {
        return None;
    };
    std::str::from_utf8(bytes).ok()
}

/// Reads a map's header; `None` if there is no map.
fn map_len(bytes: &[u8], at: &mut usize) -> Result<Option<usize>, Broken> {
    let (length, header) = match bytes.get(*at).ok_or(Broken)? {
        marker @ 0x80..=0x8f => (usize::from(marker & 0x0f), 1),
        0xde => (number(bytes, *at + 1, 2)?, 3),
        0xdf => (number(bytes, *at + 1, 4)?, 5),
        _ => return Ok(None),
    };
    *at += header;
    Ok(Some(length))
}

/// Reads a list's header; `None` if there is no list.
fn list_len(bytes: &[u8], at: &mut usize) -> Result<Option<usize>, Broken> {
    let (length, header) = match bytes.get(*at).ok_or(Broken)? {
        marker @ 0x90..=0x9f => (usize::from(marker & 0x0f), 1),
        0xdc => (number(bytes, *at + 1, 2)?, 3),
        0xdd => (number(bytes, *at + 1, 4)?, 5),
        _ => return Ok(None),
    };
    *at += header;
    Ok(Some(length))
}

/// Where the value ends that begins at `at`.
fn skip(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let (mut at, mut left) = (at, 1_usize);
    while left > 0 {
        left -= 1;
        let marker = *bytes.get(at).ok_or(Broken)?;
        let sized = |width: usize, extra: usize| -> Result<usize, Broken> {
            Ok(1 + width + extra + number(bytes, at + 1, width)?)
        };
        let (length, children) = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (1, 0),
            0x80..=0x8f => (1, 2 * usize::from(marker & 0x0f)),
            0x90..=0x9f => (1, usize::from(marker & 0x0f)),
            0xa0..=0xbf => (1 + usize::from(marker & 0x1f), 0),
            0xc1 => return Err(Broken),
            0xc4 | 0xd9 => (sized(1, 0)?, 0),
            0xc5 | 0xda => (sized(2, 0)?, 0),
            0xc6 | 0xdb => (sized(4, 0)?, 0),
            0xc7 => (sized(1, 1)?, 0),
            0xc8 => (sized(2, 1)?, 0),
            0xc9 => (sized(4, 1)?, 0),
            0xcc | 0xd0 => (2, 0),
            0xcd | 0xd1 => (3, 0),
            0xca | 0xce | 0xd2 => (5, 0),
            0xcb | 0xcf | 0xd3 => (9, 0),
            0xd4..=0xd8 => (2 + (1 << (marker - 0xd4)), 0),
            0xdc => (3, number(bytes, at + 1, 2)?),
            0xdd => (5, number(bytes, at + 1, 4)?),
            0xde => (3, 2 * number(bytes, at + 1, 2)?),
            0xdf => (5, 2 * number(bytes, at + 1, 4)?),
        };
        at = at.checked_add(length).filter(|end| *end <= bytes.len()).ok_or(Broken)?;
        left = left.checked_add(children).ok_or(Broken)?;
    }
    Ok(at)
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<usize, Broken> {
    let bytes = bytes.get(at..at + width).ok_or(Broken)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_shape_are_passed_over() {
        let payload = serde_json::json!({
            "a": null, "b": true, "c": -1, "d": 70_000, "e": 1.5, "f": "x".repeat(300), "g": [1, [2, {"h": "i"}]],
            "j": {"k": {"l": "found"}, "m": (0..20).collect::<Vec<_>>()}, "last": "y".repeat(70_000),
        });
        let bytes = rmp_serde::to_vec_named(&payload).unwrap();
        assert_eq!(skip(&bytes, 0), Ok(bytes.len()));
        let mut seen = Vec::new();
        let unchanged = replace::<Broken>(&bytes, &["j.k.l", "last", "g.h"], &mut |path, value| {
            seen.push((path.to_owned(), value.len()));
            Ok(None)
        });
        assert_eq!(unchanged, Ok(None));
        assert_eq!(seen, [("j.k.l".to_owned(), 6), ("last".to_owned(), 70_005)]);
        let changed = replace::<Broken>(&bytes, &["j.k.l", "last"], &mut |_, _| Ok(Some(short_text("z"))));
        let changed: serde_json::Value = rmp_serde::from_slice(&changed.unwrap().unwrap()).unwrap();
        let mut expected = payload;
        expected["j"]["k"]["l"] = "z".into();
        expected["last"] = "z".into();
        assert_eq!(changed, expected);
    }

    #[test]
    fn the_maps_of_a_list_go_by_the_path_of_the_list() {
        let payload =
            serde_json::json!({"a": [{"b": "x"}, 7, {"c": 1, "b": "y"}, [{"b": "z"}]], "d": {"b": "w"}});
        let bytes = rmp_serde::to_vec_named(&payload).unwrap();
        let changed = replace::<Broken>(&bytes, &["a.b"], &mut |_, _| Ok(Some(short_text("!"))));
        let changed: serde_json::Value = rmp_serde::from_slice(&changed.unwrap().unwrap()).unwrap();
        let mut expected = payload;
        expected["a"][0]["b"] = "!".into();
        expected["a"][2]["b"] = "!".into();
        assert_eq!(changed, expected, "lists within a list are nobody's fields");
    }

    #[test]
    fn no_bytes_lead_out_of_bounds() {
        let payload = serde_json::json!({"a": {"b": "c"}, "d": vec!["e"; 40]});
        let bytes = rmp_serde::to_vec_named(&payload).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(replace::<Broken>(&bytes[..end], &["a.b"], &mut |_, _| Ok(None)), Err(Broken));
        }
        for marker in 0..=u8::MAX {
            let _ = skip(&[marker], 0);
            let _ = skip(&[marker, 0xff, 0xff, 0xff, 0xff], 0);
        }
    }

    #[test]
    fn sealed_bytes_of_any_length_are_found_again() {
        for length in [49, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; length];
            let value = seal(&bytes);
            assert_eq!(skip(&value, 0), Ok(value.len()));
            assert_eq!(sealed(&value), Some(bytes.as_slice()));
        }
    }
}
