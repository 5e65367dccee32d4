# filled by doc/'s parts
