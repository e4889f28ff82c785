"""From measured records to findings; nothing here ever sees a model."""
