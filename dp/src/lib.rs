//! Privacy events, accountants, exact noise and the release ledger.
