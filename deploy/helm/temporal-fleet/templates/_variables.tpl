{{/*
Entries of `env` from a map of variables to texts, numbers, booleans or sources, in an order in which references resolve.
Names are quoted, since YAML takes some of them, such as N, for a boolean. Argument: the map.
*/}}
{{- define "temporal-fleet.env" -}}
{{- $variables := . -}}
{{- range $name := (include "temporal-fleet.ordered" . | fromJson).order }}
{{- $value := get $variables $name }}
- name: {{ $name | quote }}
{{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
{{- else }}
  value: {{ include "temporal-fleet.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Names of the variables that have a value, as JSON. Kubernetes resolves `$(NAME)` in a value only by what comes before it,
so a variable comes after those that it refers to. Returns order, and left: those that refer to each other in a circle or
to such a circle. Argument: the map of variables.
*/}}
{{- define "temporal-fleet.ordered" -}}
{{- $waiting := dict -}}
{{- range $name, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $waiting $name (without (include "temporal-fleet.references" $value | fromJsonArray | uniq) $name) -}}
{{- end -}}
{{- end -}}
{{- $order := list -}}
{{- range until (len $waiting) -}}
{{- $next := "" -}}
{{- range $name, $wanted := $waiting -}}
{{- $free := not $next -}}
{{- range $wanted }}{{ if hasKey $waiting . }}{{ $free = false }}{{ end }}{{ end -}}
{{- if $free }}{{ $next = $name }}{{ end -}}
{{- end -}}
{{- if $next -}}
{{- $order = append $order $next -}}
{{- $_ := unset $waiting $next -}}
{{- end -}}
{{- end -}}
{{- dict "order" $order "left" $waiting | toJson -}}
{{- end -}}

{{/*
Names of the variables that a value refers to as `$(NAME)`, as a JSON list; `$$(NAME)` is text. Argument: the value.
*/}}
{{- define "temporal-fleet.references" -}}
{{- $names := list -}}
{{- if kindIs "string" . -}}
{{- range regexFindAll "\\$\\$|\\$\\([^)]+\\)" . -1 -}}
{{- if hasPrefix "$(" . }}{{ $names = append $names (trimPrefix "$(" . | trimSuffix ")") }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/*
Refuses references that Kubernetes would leave as they stand: to variables that are not there, and in a circle. What an
envFrom brings is not known here. Argument: a dict of fleet, at, place (the values that the map comes from), env (the
map), others (maps of variables that come before all of it), and envFrom.
*/}}
{{- define "temporal-fleet.check-references" -}}
{{- $before := dict -}}
{{- range .others }}{{ $before = merge $before . }}{{ end -}}
{{- range $name, $value := .env -}}
{{- range $wanted := include "temporal-fleet.references" $value | fromJsonArray -}}
{{- $set := not (kindIs "invalid" (index $.env $wanted)) -}}
{{- $there := or (hasKey $before $wanted) (and (ne $wanted $name) $set) (hasPrefix "KUBERNETES_" $wanted) -}}
{{- if not (or $there $.envFrom) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s: the variable %s refers to $(%s), which is not set there, so it would be passed on as it stands; add it to %s, such as %s: {valueFrom: {fieldRef: {fieldPath: status.hostIP}}}, or write $$(%s) if this is not a reference" $.at $name $wanted $.place $wanted $wanted)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $left := (include "temporal-fleet.ordered" .env | fromJson).left -}}
{{- range until (len $left) -}}
{{- range $name, $_ := $left -}}
{{- $needed := false -}}
{{- range $wanted := $left }}{{ if has $name $wanted }}{{ $needed = true }}{{ end }}{{ end -}}
{{- if not $needed }}{{ $_ := unset $left $name }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $circle := list -}}
{{- range $name, $wanted := $left -}}
{{- range $wanted }}{{ if hasKey $left . }}{{ $circle = append $circle (printf "%s to $(%s)" $name .) }}{{ end }}{{ end -}}
{{- end -}}
{{- with $circle -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s: variables refer to each other in a circle, so they would be passed on as they stand: %s; give one of them a value that refers to none of the others" $.at (join ", " .))) -}}
{{- end -}}
{{- end -}}

{{/*
Refuses credentials where everybody who may read ConfigMaps, Deployments or Jobs could read them. Argument: a dict of
fleet, at (the path of the map in messages), env (the map), and cure.
*/}}
{{- define "temporal-fleet.check-plain-text" -}}
{{- range $name, $value := .env -}}
{{- if and (include "temporal-fleet.is-credential" (list $name $value)) (not (kindIs "map" $value)) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s.%s: this is a credential, and whoever may read ConfigMaps, Deployments or Jobs could read it here; %s" $.at $name $.cure)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a variable holds a credential, by its name or as a URL with a password: "true" or nothing. An empty value takes
a header away, and the name of a file is no secret. Argument: a list of name and value.
*/}}
{{- define "temporal-fleet.is-credential" -}}
{{- $name := first . | upper -}}
{{- $value := kindIs "invalid" (last .) | ternary "" (toString (last .)) -}}
{{- $header := regexMatch "^(OTEL_EXPORTER_OTLP_([A-Z]+_)?HEADERS|FLEET_TRACING_OTLP_HEADERS)$" $name -}}
{{- $header = or $header (regexMatch "^TEMPORAL_GRPC_META_(.*[_-])?(AUTHORIZATION|AUTH|COOKIE|PASSWORD|SECRET|TOKEN|API[_-]?KEY|ACCESS[_-]KEY)([_-].*)?$" $name) -}}
{{- $url := regexMatch "://[^/?#@\\s]*:[^/?#@\\s]+@" $value -}}
{{- $proxy := and (hasSuffix "_PROXY" $name) (regexMatch "^[^/?#@\\s]*:[^/?#@\\s]+@" $value) -}}
{{- if and $value (not (hasSuffix "_FILE" $name)) (or $header $url $proxy (eq $name "TEMPORAL_API_KEY")) -}}
true
{{- end -}}
{{- end -}}

{{/*
Refuses numbers of so many digits that YAML changes the last ones. Argument: a dict of fleet, at (the path of the map
in messages) and env (the map).
*/}}
{{- define "temporal-fleet.check-numbers" -}}
{{- range $name, $value := .env -}}
{{- if and (or (kindIs "float64" $value) (kindIs "int64" $value)) (gt (maxf (float64 $value) (mulf -1.0 (float64 $value))) 9007199254740991.0) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "%s.%s: this number has more digits than YAML keeps, so its last ones would change; write it in quotes" $.at $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Where a variable of the connection belongs that may hold a secret, or nothing for any other variable.
Argument: the name of the variable.
*/}}
{{- define "temporal-fleet.place-of-credential" -}}
{{- if hasPrefix "TEMPORAL_API_KEY" . -}}
workers and Jobs read the API key from a mounted Secret, and anybody would read it here; name that Secret in temporal.apiKey.secretName
{{- else if hasPrefix "TEMPORAL_TLS" . -}}
encryption is the same for workers and Jobs; use the keys of temporal.tls
{{- end -}}
{{- end -}}
