/* What a record is deflated against. Part of the format on disk: a dictionary that was ever used is never changed; a
 * better one gets the next number (and the schema's). Frequent things stand at the end, where they cost least. */
#include "shared/store/store_private.h"

static const char dictionary_1[] =
    /* replies */
    "Recipient address rejected: User unknown in local recipient table"
    "Recipient address rejected: User unknown in relay recipient table"
    "Recipient address rejected: User unknown in virtual alias table"
    "Recipient address rejected: Greylisted, try again later"
    "Sender address rejected: Domain not found"
    "Helo command rejected: need fully-qualified hostname"
    "Client host rejected: cannot find your reverse hostname, "
    "Service unavailable; Client host [] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/"
    "Temporary lookup failure" "timeout after DATA (0 bytes)" "lost connection after RCPT"
    ">: Sender address rejected: Access denied" ">: Recipient address rejected: Access denied"
    ">: Recipient address rejected: User unknown in virtual mailbox table" ">: Relay access denied"
    /* headers */
    "\n\x0f" "Delivered-To\x12" "\n\x0d" "X-Original-To\x12" "\n\x0a" "Precedence\x12\x04" "bulk"
    "\n\x0e" "Auto-Submitted\x12\x0e" "auto-generated" "auto-replied" "\n\x07" "List-Id\x12"
    "\n\x0c" "Received-SPF\x12" "Pass (sender SPF authorized) identity=mailfrom; client-ip=; helo=; envelope-from=<>; receiver="
    "\n\x16" "Authentication-Results\x12"
    ";\n\tspf=pass smtp.mailfrom=" ";\n\tdkim=pass (1024-bit key; " "(2048-bit key; unprotected) header.d= header.i=@ header.a=rsa-sha256 "
    "header.s=selector1 header.s=20230601 header.b=" ";\n\tdkim-atps=neutral" ";\n\tdmarc=pass (policy=none) header.from="
    "for <; Mon, 01 Jan 2026 00:00:00 +0200 (CEST)" "+0100 (CET)" "Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Sat, Sun, Thu, Fri, "
    "Postfix, from userid 0)\n\tid " "by localhost (Postfix) with ESMTP id "
    ".outbound.protection.outlook.com (2603:10a6: (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.20. "
    "with Microsoft SMTP Server with HTTP with mapi id ; Frontend Transport; "
    "from (unknown []) by (Postfix) with ESMTPS id " "from localhost (localhost [127.0.0.1])\n\tby "
    " (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n\t key-exchange X25519 server-signature RSA-PSS (2048 bits) "
    "server-digest SHA256)\n\t(No client certificate requested)\n\tby  (Postfix) with ESMTPSA id \n\tfor <"
    "        by smtp.gmail.com with ESMTPSA id .2026.\n        (version=TLS1_3 cipher=TLS_AES_128_GCM_SHA256 bits=128/128);\n        "
    "by mail- with SMTP id so a12.1\n        for <>; Wed, Tue, 00:00:00 -0700 (PDT)" " -0800 (PST)" "+0000 (UTC)"
    "=?utf-8?q?=?UTF-8?B?" "\n\x0b" "Return-Path\x12" "\n\x08" "Received\x12" "\n\x04" "Date\x12" "\n\x02" "To\x12" "\n\x04" "From\x12"
    "\n\x0a" "Message-ID\x12"
    /* hosts and domains */
    "mail.protection.outlook.com.hotmail.yahoo.gmx.web.de.t-online.net.org.fr.it.co.uk" "google.com" "@gmail.com"
    /* attributes with no member of their own */
    "\xca\x02\x0f\n\x0a" "queue_time\x12\x01" "0" "\xca\x02\x17\n\x12" "client_connections\x12\x01" "1"
    "\xca\x02\x18\n\x13" "compatibility_level\x12\x03" "3.6" "\xca\x02\x16\n\x0c" "mail_version\x12\x06" "3.7.11"
    /* sessions */
    "TLSv1.2" "ECDHE-RSA-AES256-GCM-SHA384" "LOGIN" "PLAIN" "postfix/submission/smtpd" "postfix/smtps/smtpd" "unknown"
    "lmtp:" "unix:private/dovecot-lmtp" "virtual" "smtp:" "relay" "local" "5.7.1" "5.1.1" "4.7.1"
    /* tracepoints and steps */
    "\n\x0a" "submission\x12" "data" "\n\x04" "main\x12\x04" "helo\x19" "\n\x04" "main\x12\x06" "sender\x19" "\n\x04" "main\x12\x09" "recipient\x19"
    "\n\x04" "main\x12\x05" "relay\x19" "\n\x04" "main\x12\x06" "client\x19"
    "\"\x04\x01\x01\x01\x02*\x06" "\"\x06\x01\x01\x02\x01\x03\x01*\x09" "\"\x0c\x01\x01\x02\x01\x03\x01\x01\x02\x02\x02\x03\x02*\x12"
    "!\"'RRRRRR(RRRRRR((*+mnop)q" "!\"#\"'RRRR(*+mo)p" "!\"'(*)+"
    "RCPT" "FAIL" "OK" "ESMTP" "postfix/smtpd" "TLSv1.3" "TLS_AES_256_GCM_SHA384";

struct span store_dictionary(unsigned number)
{
	return number == 1 ? span_make(dictionary_1, sizeof(dictionary_1) - 1) : (struct span){NULL, 0};
}
