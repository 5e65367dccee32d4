# filled by policyd/'s parts
