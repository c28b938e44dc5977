-- The new comments are also true of the previous version.
SELECT 1;
