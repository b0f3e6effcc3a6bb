"""The operations of all APIs: functions that take a transaction. An API converts its requests and results."""
