"""The database's migrations, run by alembic from the installed package."""
