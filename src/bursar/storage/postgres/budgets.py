"""Budgets in PostgreSQL: loads and writes in few round trips."""

from bursar.storage.sql.budgets import SqlBudgets


class PostgresBudgets(SqlBudgets):
    """`budgets.ports.BudgetStore` within a transaction that holds the organisation's lock."""
