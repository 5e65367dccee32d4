# filled by query/'s parts
