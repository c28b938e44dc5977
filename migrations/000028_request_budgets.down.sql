DROP TABLE callbackd.request_budgets;
