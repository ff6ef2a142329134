"""Who may speak: API keys today; users, roles and sessions move in beside them."""
