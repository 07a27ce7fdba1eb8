#include "api/conf/yaml.h"

#include <string.h>

/* Bytes that aren't UTF-8 or no characters are told by offset, all else by line. */
static unsigned problem_line(const yaml_parser_t *parser, struct pfx_bytes text)
{
    if (parser->error != YAML_READER_ERROR)
        return (unsigned)parser->problem_mark.line + 1;
    unsigned line = 1;
    for (size_t i = 0; i < parser->problem_offset && i < text.len; i++)
        line += text.data[i] == '\n';
    return line;
}

static void parser_mistake(struct pfx_conf_reader *reader, const yaml_parser_t *parser,
                           struct pfx_bytes text)
{
    /* A tab gives "found character that cannot start any token"; say what is meant. */
    bool tab = parser->problem && (strstr(parser->problem, "cannot start any token") ||
                                   strstr(parser->problem, "tab character"));
    pfx_reader_mistake(reader, problem_line(parser, text), "", "not YAML: %s%s%s%s",
                       parser->problem ? parser->problem : "unreadable",
                       parser->context ? " " : "", parser->context ? parser->context : "",
                       tab ? "; expected spaces in front, never tabs, and quotes around a value "
                             "that begins with %, @ or `"
                           : "");
}

/* The document API resolves aliases without a trace, so they are looked for among the tokens.
 * Nothing has been expanded by then. */
static bool tokens_fine(struct pfx_conf_reader *reader, struct pfx_bytes text)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text.data, text.len);
    bool fine = true, more = true;
    while (fine && more) {
        yaml_token_t token;
        if (!yaml_parser_scan(&parser, &token)) {
            parser_mistake(reader, &parser, text);
            fine = false;
            break;
        }
        const char *what = NULL;
        switch (token.type) {
        case YAML_ALIAS_TOKEN:
            what = "an alias (*name)";
            break;
        case YAML_ANCHOR_TOKEN:
            what = "an anchor (&name)";
            break;
        case YAML_TAG_TOKEN:
            what = "a tag (!name)";
            break;
        case YAML_VERSION_DIRECTIVE_TOKEN:
        case YAML_TAG_DIRECTIVE_TOKEN:
            what = "a directive (%...)";
            break;
        default:
            break;
        }
        if (what) {
            pfx_reader_mistake(reader, (unsigned)token.start_mark.line + 1, "",
                               "%s isn't taken here; expected plain values, each written out",
                               what);
            fine = false;
        }
        more = token.type != YAML_STREAM_END_TOKEN;
        yaml_token_delete(&token);
    }
    yaml_parser_delete(&parser);
    return fine;
}

/* The only document; a second one is a mistake. */
static bool one_document(struct pfx_conf_reader *reader, yaml_parser_t *parser,
                         struct pfx_bytes text, yaml_document_t *ret_doc)
{
    if (!yaml_parser_load(parser, ret_doc)) {
        parser_mistake(reader, parser, text);
        return false;
    }
    yaml_document_t second;
    bool loaded = yaml_parser_load(parser, &second);
    yaml_node_t *root = loaded ? yaml_document_get_root_node(&second) : NULL;
    if (!loaded)
        parser_mistake(reader, parser, text);
    else if (root)
        pfx_reader_mistake(reader, pfx_yaml_line(root), "",
                           "a second document begins; expected one document (no --- in between)");
    if (loaded)
        yaml_document_delete(&second);
    if (loaded && !root)
        return true;
    yaml_document_delete(ret_doc);
    return false;
}

bool pfx_yaml_load(struct pfx_conf_reader *reader, struct pfx_bytes text,
                   yaml_document_t *ret_doc, yaml_node_t **ret_root)
{
    if (!text.data) /* an empty file: libyaml asserts on NULL */
        text = (struct pfx_bytes){(const uint8_t *)"", 0};
    if (!tokens_fine(reader, text))
        return false;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text.data, text.len);
    bool loaded = one_document(reader, &parser, text, ret_doc);
    yaml_parser_delete(&parser);
    if (loaded)
        *ret_root = yaml_document_get_root_node(ret_doc);
    return loaded;
}

unsigned pfx_yaml_line(const yaml_node_t *node)
{
    return (unsigned)node->start_mark.line + 1;
}

const char *pfx_yaml_text(const yaml_node_t *node, bool *ret_plain)
{
    if (node->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return NULL;
    if (ret_plain)
        *ret_plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return text;
}

bool pfx_yaml_is_null(const yaml_node_t *node)
{
    bool plain = false;
    const char *text = pfx_yaml_text(node, &plain);
    return text && plain &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
            strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0);
}
