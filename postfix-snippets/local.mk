# filled by postfix-snippets/'s parts
