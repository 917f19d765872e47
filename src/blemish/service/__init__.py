"""The service: model files answered over HTTP, for browsers, integrators and DamageLens' clients.

A request reads in four words: `uploads` reads it, `batching` answers it, `answers` says it, and
`problem` refuses it. `app` puts them together; `docs/rest.md` is the contract.
"""
