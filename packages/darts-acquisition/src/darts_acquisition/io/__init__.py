"""How bytes come here: services, their limits and their failures."""
