"""Equal networks are traced once."""

from tests.traced_once import traced_once as traced_once
