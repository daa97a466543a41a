"""The abstract parts that a method is put together from. Import them from `ssl_core.api`."""
