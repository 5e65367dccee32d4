# filled by recorder/'s parts
