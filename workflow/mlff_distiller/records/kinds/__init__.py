"""The fields of records: their types, units and meanings, one class for each kind of record."""
