"""From captured events to a posted ledger: intake, the pipeline, and the ports they need."""
