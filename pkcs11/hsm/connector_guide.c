/* The guide's text. */
#include "pkcs11/hsm/connector_guide.h"

#include <string.h>

/* In single quotes PowerShell reads nothing but the quote itself, which is doubled. */
static bool quoted(struct pfx_buf *out, const char *name, const char *text)
{
    bool ok = pfx_buf_addf(out, "$%s = '", name);
    for (; ok && *text; text++) {
        unsigned char c = (unsigned char)*text;
        ok = c >= 0x20 && c != 0x7f && pfx_buf_add(out, text, 1) &&
             (c != '\'' || pfx_buf_add(out, text, 1));
    }
    return ok && pfx_buf_add_str(out, "'\n");
}

/* U+2018 to U+201B end a string in single quotes, too. */
static bool plain(const char *text)
{
    return !strstr(text, "\xe2\x80\x98") && !strstr(text, "\xe2\x80\x99") &&
           !strstr(text, "\xe2\x80\x9a") && !strstr(text, "\xe2\x80\x9b");
}

static const char head[] =
    "#requires -RunAsAdministrator\n"
    "# Does this connector host have the new encryption key? Made by pfx-agent connector probe; it\n"
    "# changes no key. It holds no secret that opens anything: the probes are good for this question\n"
    "# alone.\n"
    "#\n"
    "#   .\\THIS-FILE.ps1 -ServiceDirectory C:\\Validation\\Service -ScriptDirectory C:\\Validation\n"
    "#\n"
    "# ScriptDirectory: CreateServiceTestFile.ps1 and InstallAndRunTestService.ps1 of Microsoft's\n"
    "# Intune-Resource-Access, src/PFXImportPowershell/OnPremValidation. ServiceDirectory: the test\n"
    "# service that its solution builds. Without them only this account is tried, not the\n"
    "# connector's service.\n"
    "param([string] $ServiceDirectory, [string] $ScriptDirectory)\n"
    "$ErrorActionPreference = 'Stop'\n"
    "Add-Type -AssemblyName System.Security.Cryptography.Cng -ErrorAction SilentlyContinue\n";

static const char service[] =
    "\nif ($ServiceDirectory -and $ScriptDirectory) {\n"
    "    # 4 is OAEP.\n"
    "    & (Join-Path $ScriptDirectory 'CreateServiceTestFile.ps1') -serviceDirectory "
    "$ServiceDirectory `\n"
    "        -plainSecret $knownPlain -encryptedSecretBase64 $knownSealed -keyName $keyName `\n"
    "        -hashAlgorithm $hashAlgorithm -paddingFlags 4 -provider $providerName\n"
    "    & (Join-Path $ScriptDirectory 'InstallAndRunTestService.ps1') -serviceDirectory "
    "$ServiceDirectory\n"
    "    Write-Host 'If the service above did not pass, stop here: its account can not open what is "
    "sealed.'\n"
    "} else {\n"
    "    Write-Warning 'The connector''s service account was not tried: give -ServiceDirectory and "
    "-ScriptDirectory.'\n"
    "}\n";

static const char answer[] =
    "\n$provider = New-Object System.Security.Cryptography.CngProvider $providerName\n"
    "# A key of the machine, as a service finds it; then one of this user.\n"
    "try {\n"
    "    $key = [System.Security.Cryptography.CngKey]::Open($keyName, $provider, "
    "[System.Security.Cryptography.CngKeyOpenOptions]::MachineKey)\n"
    "} catch {\n"
    "    $key = [System.Security.Cryptography.CngKey]::Open($keyName, $provider)\n"
    "}\n"
    "$rsa = New-Object System.Security.Cryptography.RSACng $key\n"
    "$padding = [System.Security.Cryptography.RSAEncryptionPadding]::CreateOaep(\n"
    "    [System.Security.Cryptography.HashAlgorithmName]::new($hashAlgorithm))\n"
    "$plain = $rsa.Decrypt([System.Convert]::FromBase64String($probe), $padding)\n"
    "Write-Host ''\n"
    "Write-Host 'Give this to the operator of pfx-agent:'\n"
    "Write-Host (\"pfx-agent connector confirm {0} {1}\" -f $connector, "
    "[System.Text.Encoding]::ASCII.GetString($plain))\n";

bool pfx_connector_guide(const struct pfx_connector_guide *guide, struct pfx_buf *out)
{
    static const char *const hashes[] = {[PFX_HASH_SHA256] = "SHA256",
                                         [PFX_HASH_SHA384] = "SHA384",
                                         [PFX_HASH_SHA512] = "SHA512"};
    return plain(guide->key_name) && plain(guide->provider_name) && pfx_buf_add_str(out, head) &&
           pfx_buf_addf(out, "\n# Generation %u of the encryption key\n", guide->generation) &&
           quoted(out, "connector", guide->host) && quoted(out, "keyName", guide->key_name) &&
           quoted(out, "providerName", guide->provider_name) &&
           quoted(out, "hashAlgorithm", hashes[guide->hash]) &&
           quoted(out, "probe", guide->probe) && quoted(out, "knownPlain", guide->known_plain) &&
           quoted(out, "knownSealed", guide->known_sealed) && pfx_buf_add_str(out, service) &&
           pfx_buf_add_str(out, answer);
}
