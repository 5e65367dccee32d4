# filled by milter/'s parts
