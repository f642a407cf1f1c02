//! Reading usage records, newest first.

use super::model::{UsageRecord, usage_columns};
use super::rollup::HOUR;
use crate::db::{Db, DbError, FromRow, Row, Rows, Value};
use kernel::{Timestamp, UserRowId};

/// How many hours of roll-ups are looked at in one go.
const HOURS_AT_ONCE: i64 = 1_000;

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Of this model.
    pub model_name: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// Of this session.
    pub session_id: Option<String>,
    /// Only those that come after this time and id in the list.
    pub after: Option<(i64, i64)>,
    /// How many to pass over.
    pub offset: i64,
    /// How many to give.
    pub limit: i64,
}

/// A select of records; `$n` are as [`Span::values`] binds them.
macro_rules! records {
    ($conditions:tt) => {
        concat!(
            "SELECT ",
            usage_columns!(),
            " FROM usage_records WHERE user_id = $1 AND created_at BETWEEN $2 AND $3 \
             AND (created_at, id) < ($4, $5)",
            $conditions,
            " ORDER BY created_at DESC, id DESC LIMIT $6 OFFSET $7"
        )
    };
}

/// The same of facets, which are bound after the span.
macro_rules! records_of_facets {
    () => {
        records!(
            " AND (CAST($8 AS TEXT) IS NULL OR event_type = $8) AND (CAST($9 AS TEXT) IS NULL OR model_name = $9) \
             AND (CAST($10 AS TEXT) IS NULL OR provider = $10)"
        )
    };
}

/// A stretch of a user's records.
#[derive(Clone, Copy)]
struct Span {
    user: UserRowId,
    from: i64,
    to: i64,
    after: (i64, i64),
    limit: i64,
    offset: i64,
}

impl Span {
    fn values(self) -> Vec<Value> {
        let (after_time, after_id) = self.after;
        [self.user.0, self.from, self.to, after_time, after_id, self.limit + 1, self.offset]
            .map(Value::from)
            .to_vec()
    }
}

/// Records, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn history(db: &Db, user: UserRowId, filter: &UsageFilter) -> Result<Rows<UsageRecord>, DbError> {
    let span = Span {
        user,
        from: filter.start.map_or(0, Timestamp::micros),
        to: filter.end.unwrap_or(Timestamp::MAX).micros(),
        after: filter.after.unwrap_or((i64::MAX, i64::MAX)),
        limit: filter.limit,
        offset: filter.offset,
    };
    let facets =
        || [&filter.event_type, &filter.model_name, &filter.provider].map(|facet| Value::from(facet.clone()));
    if let Some(session) = &filter.session_id {
        let mut values = span.values();
        values.push(session.as_str().into());
        values.extend(facets());
        let sql = records!(
            " AND session_id = $8 AND (CAST($9 AS TEXT) IS NULL OR event_type = $9) \
             AND (CAST($10 AS TEXT) IS NULL OR model_name = $10) AND (CAST($11 AS TEXT) IS NULL OR provider = $11)"
        );
        return db.page(sql, values, span.limit).await;
    }
    if facets().iter().all(|facet| *facet == Value::Text(None)) {
        return db.page(records!(""), span.values(), span.limit).await;
    }
    by_hours(db, span, &facets()).await
}

/// An hour that has records of a facet, and how many.
struct BusyHour {
    bucket: i64,
    records: i64,
}

impl FromRow for BusyHour {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { bucket: row.int(0)?, records: row.int(1)? })
    }
}

/// Records of a facet, hour by hour: the roll-ups say which hours have any, so that a rare one is
/// found without reading all the others, and whole hours are passed over without reading them.
async fn by_hours(db: &Db, mut span: Span, facets: &[Value; 3]) -> Result<Rows<UsageRecord>, DbError> {
    let mut found = Rows::up_to(span.limit);
    let mut newest = span.to.min(span.after.0);
    loop {
        let mut values: Vec<Value> =
            [span.user.0, span.from - HOUR, newest, HOURS_AT_ONCE].map(Value::from).to_vec();
        values.extend_from_slice(facets);
        let sql = "SELECT bucket, CAST(sum(records) AS BIGINT) FROM usage_rollups WHERE user_id = $1 \
                   AND period = 'hour' AND bucket > $2 AND bucket <= $3 AND (CAST($5 AS TEXT) IS NULL OR event_type = $5) \
                   AND (CAST($6 AS TEXT) IS NULL OR model_name = $6) AND (CAST($7 AS TEXT) IS NULL OR provider = $7) \
                   GROUP BY bucket ORDER BY bucket DESC LIMIT $4";
        let hours = db.query::<BusyHour>(sql, values).await?;
        for hour in &hours {
            let last = hour.bucket + HOUR - 1;
            let whole = hour.bucket >= span.from && last <= span.to && last < span.after.0;
            if whole && span.offset >= hour.records {
                span.offset -= hour.records;
                continue;
            }
            let mut values =
                Span { from: hour.bucket.max(span.from), to: last.min(span.to), ..span }.values();
            values.extend_from_slice(facets);
            if !whole && span.offset > 0 {
                // At most the first and the last hour are ragged.
                let sql = concat!("SELECT count(*) FROM (", records_of_facets!(), ") AS counted");
                let mut counted = values.clone();
                (counted[5], counted[6]) = (i64::MAX.into(), 0.into());
                let records = db.query::<i64>(sql, counted).await?.pop().unwrap_or_default();
                if span.offset >= records {
                    span.offset -= records;
                    continue;
                }
            }
            let records = db.page::<UsageRecord>(records_of_facets!(), values, span.limit).await?;
            span.offset = 0;
            for record in records.rows {
                if !found.take(record) {
                    return Ok(found);
                }
            }
            if records.more {
                found.more = true;
                return Ok(found);
            }
        }
        match hours.last() {
            Some(oldest) if i64::try_from(hours.len()) == Ok(HOURS_AT_ONCE) => newest = oldest.bucket - 1,
            _ => return Ok(found),
        }
    }
}
