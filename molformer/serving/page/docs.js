// The page of the API: Swagger UI, from an installed package, reads the schema of this server.

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", validatorUrl: null });
