"""The REST service: predictions of model files over HTTP, for browsers and for other programs.

A request passes through four modules: `uploads` reads the form, `inference_service` runs the model,
`serializers` writes the answer, and `problem_details` describes a refusal. `app` builds the application from
them, `route_registry` lets plug-ins add routes of their own, and `docs/rest.md` is the contract with clients.
"""
