//! A query of the state API (contract 2.2, alpha), as one syntax tree for all stores: parsed once from the JSON that callers
//! send, and never again. What is wrong is told with its place, such as `filter.AND[1].EQ`.

use std::str::FromStr;

use serde_json::{Map, Value};

/// A query: which values, in which order, and how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Which values; without one, all.
    pub filter: Option<Filter>,
    /// In which order, the first counting most.
    pub sort: Vec<Sort>,
    /// Which of them.
    pub page: Page,
}

/// Which values are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// A field compares in this way with a value.
    Compare {
        /// The way.
        comparison: Comparison,
        /// Names of nested fields, joined by dots.
        key: String,
        /// What it is compared with.
        value: Value,
    },
    /// A field has one of these values.
    In {
        /// Names of nested fields, joined by dots.
        key: String,
        /// The values.
        values: Vec<Value>,
    },
    /// All of these hold.
    And(Vec<Filter>),
    /// One of these holds.
    Or(Vec<Filter>),
}

/// How a field compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// Anything else.
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// A field to order by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Names of nested fields, joined by dots.
    pub key: String,
    /// From the largest down.
    pub descending: bool,
}

/// Which of the values are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Most of them; without one, as many as the store likes.
    pub limit: Option<u32>,
    /// Where the page before has ended.
    pub token: Option<String>,
}

/// A query that is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON.
    #[error("{0}")]
    Json(serde_json::Error),
    /// Something in it has the wrong form.
    #[error("{place}: {problem}")]
    Form {
        /// Where.
        place: String,
        /// What is expected there.
        problem: String,
    },
}

impl FromStr for Query {
    type Err = Error;

    /// Members that queries do not have are passed over.
    fn from_str(text: &str) -> Result<Self, Error> {
        let query = serde_json::from_str(text).map_err(Error::Json)?;
        let members = object(&query, "query")?;
        let filter = members.get("filter").filter(|filter| !is_empty(filter));
        let sort = members.get("sort").map(|sort| list(sort, "sort"));
        let sort = sort.transpose()?.into_iter().flatten().enumerate();
        Ok(Self {
            filter: filter.map(|it| Filter::parse(it, "filter")).transpose()?,
            sort: sort
                .map(|(index, it)| Sort::parse(it, &format!("sort[{index}]")))
                .collect::<Result<_, _>>()?,
            page: members
                .get("page")
                .map(Page::parse)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl Filter {
    /// The operator and what stands behind it, as callers write it.
    pub fn to_json(&self) -> (&'static str, Value) {
        let pair =
            |key: &String, value: Value| Value::Object(Map::from_iter([(key.clone(), value)]));
        let all = |filters: &[Self]| {
            let filters = filters.iter().map(|filter| {
                let (operator, operand) = filter.to_json();
                Value::Object(Map::from_iter([(operator.to_owned(), operand)]))
            });
            Value::Array(filters.collect())
        };
        match self {
            Self::Compare {
                comparison,
                key,
                value,
            } => (comparison.name(), pair(key, value.clone())),
            Self::In { key, values } => ("IN", pair(key, Value::Array(values.clone()))),
            Self::And(filters) => ("AND", all(filters)),
            Self::Or(filters) => ("OR", all(filters)),
        }
    }

    fn parse(filter: &Value, place: &str) -> Result<Self, Error> {
        let (operator, operand) = only(filter, place, "one operator")?;
        let place = format!("{place}.{operator}");
        if let "AND" | "OR" = operator {
            let filters = list(operand, &place)?;
            if filters.is_empty() {
                return Err(wrong(&place, "at least one filter"));
            }
            let filters = filters.iter().enumerate();
            let filters = filters
                .map(|(index, filter)| Self::parse(filter, &format!("{place}[{index}]")))
                .collect::<Result<_, _>>()?;
            return Ok(match operator {
                "AND" => Self::And(filters),
                _ => Self::Or(filters),
            });
        }
        let comparison = Comparison::ALL
            .into_iter()
            .find(|one| one.name() == operator);
        if comparison.is_none() && operator != "IN" {
            let known = "an operator: EQ, NEQ, GT, GTE, LT, LTE, IN, AND or OR";
            return Err(wrong(&place, known));
        }
        let (key, value) = only(operand, &place, "one field and its value")?;
        let key = key.to_owned();
        Ok(match comparison {
            Some(comparison) => Self::Compare {
                comparison,
                key,
                value: value.clone(),
            },
            None => Self::In {
                values: list(value, &format!("{place}.{key}"))?.clone(),
                key,
            },
        })
    }
}

impl Comparison {
    const ALL: [Self; 6] = [
        Self::Equal,
        Self::NotEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Less,
        Self::LessOrEqual,
    ];

    /// As callers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "EQ",
            Self::NotEqual => "NEQ",
            Self::Greater => "GT",
            Self::GreaterOrEqual => "GTE",
            Self::Less => "LT",
            Self::LessOrEqual => "LTE",
        }
    }
}

impl Sort {
    fn parse(sort: &Value, place: &str) -> Result<Self, Error> {
        let members = object(sort, place)?;
        let Some(key) = members.get("key").and_then(Value::as_str) else {
            return Err(wrong(&format!("{place}.key"), "the name of a field"));
        };
        // Q-query-order: anything else is a mistake, and not another word for ascending.
        let descending = match members.get("order").map(Value::as_str) {
            None => false,
            Some(Some(order)) if order.is_empty() || order.eq_ignore_ascii_case("ASC") => false,
            Some(Some(order)) if order.eq_ignore_ascii_case("DESC") => true,
            Some(_) => return Err(wrong(&format!("{place}.order"), "ASC or DESC")),
        };
        Ok(Self {
            key: key.to_owned(),
            descending,
        })
    }
}

impl Page {
    fn parse(page: &Value) -> Result<Self, Error> {
        let members = object(page, "page")?;
        let limit = members.get("limit").map(|limit| {
            let number = limit.as_u64().and_then(|limit| u32::try_from(limit).ok());
            number.ok_or_else(|| wrong("page.limit", "a number of values"))
        });
        let token = members.get("token").map(|token| {
            let text = token.as_str().map(str::to_owned);
            text.ok_or_else(|| wrong("page.token", "a text"))
        });
        Ok(Self {
            limit: limit.transpose()?.filter(|limit| *limit > 0),
            token: token.transpose()?.filter(|token| !token.is_empty()),
        })
    }
}

fn wrong(place: &str, expected: &str) -> Error {
    Error::Form {
        place: place.to_owned(),
        problem: format!("expected {expected}"),
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

fn object<'v>(value: &'v Value, place: &str) -> Result<&'v Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| wrong(place, "an object"))
}

fn list<'v>(value: &'v Value, place: &str) -> Result<&'v Vec<Value>, Error> {
    value.as_array().ok_or_else(|| wrong(place, "a list"))
}

/// The only member of an object.
fn only<'v>(value: &'v Value, place: &str, what: &str) -> Result<(&'v str, &'v Value), Error> {
    let members = object(value, place)?;
    match (members.len(), members.iter().next()) {
        (1, Some((name, value))) => Ok((name, value)),
        _ => Err(wrong(place, what)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_becomes_a_tree_and_its_filter_json_again() {
        let filter = json!({"OR": [
            {"EQ": {"person.org": "Dev Ops"}},
            {"AND": [{"GTE": {"age": 1.5}}, {"IN": {"state": ["CA", "WA"]}}]},
        ]});
        let text = json!({
            "filter": filter,
            "sort": [{"key": "age", "order": "desc"}, {"key": "name"}],
            "page": {"limit": 3, "token": "t"},
        });
        let query: Query = text.to_string().parse().unwrap();
        let Some(Filter::Or(either)) = &query.filter else {
            panic!("{query:?}");
        };
        let first = Filter::Compare {
            comparison: Comparison::Equal,
            key: "person.org".to_owned(),
            value: json!("Dev Ops"),
        };
        assert_eq!(either[0], first);
        assert!(query.sort[0].descending && !query.sort[1].descending);
        assert_eq!(
            (query.page.limit, query.page.token.as_deref()),
            (Some(3), Some("t"))
        );
        let (operator, operand) = query.filter.unwrap().to_json();
        assert_eq!(json!({operator: operand}), filter);
    }

    #[test]
    fn what_is_not_said_is_not_asked_for() {
        for text in [
            "{}",
            r#"{"filter": {}, "page": {"limit": 0, "token": ""}, "more": 1}"#,
        ] {
            assert_eq!(text.parse::<Query>().unwrap(), Query::default());
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (query, expected) in [
            (json!([]), "query: expected an object"),
            (json!({"filter": 1}), "filter: expected an object"),
            (
                json!({"filter": {"EQ": {"a": 1}, "LT": {"a": 1}}}),
                "filter: expected one operator",
            ),
            (
                json!({"filter": {"eq": {"a": 1}}}),
                "filter.eq: expected an operator",
            ),
            (
                json!({"filter": {"EQ": {}}}),
                "filter.EQ: expected one field",
            ),
            (
                json!({"filter": {"OR": []}}),
                "filter.OR: expected at least one filter",
            ),
            (
                json!({"filter": {"AND": [{"EQ": {"a": 1}}, {"IN": {"b": 1}}]}}),
                "filter.AND[1].IN.b: expected a list",
            ),
            (
                json!({"sort": [{"key": "a"}, {"order": "ASC"}]}),
                "sort[1].key: ",
            ),
            (
                json!({"sort": [{"key": "a", "order": "up"}]}),
                "sort[0].order: expected ASC",
            ),
            (json!({"page": {"limit": -1}}), "page.limit: "),
            (json!({"page": {"token": 1}}), "page.token: "),
        ] {
            let error = query.to_string().parse::<Query>().unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        assert!(matches!("{".parse::<Query>(), Err(Error::Json(_))));
    }
}
