"""The models: attention, filters, blocks, network."""
