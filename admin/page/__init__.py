"""The fleet page: `/` shows the fleet and `/w/{node_id}` one worker, to a person with a browser."""
